//! Which of the images of a data set a process works on, where several machines share them: see [`crate::shards`].

use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// Most shards of a data set.
pub const MOST: u32 = 10_000;

/// One of several shares of the images, as in `3/100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub number: u32,
    /// How many there are.
    pub count: u32,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/').and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((number, count)) if 1 <= number && number <= count && count <= MOST => Ok(Self { number, count }),
            _ => Err(format!("expected the number of the shard and how many there are, such as 1/10 (at most {MOST})")),
        }
    }
}

/// Which images a process works on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    #[default]
    All,
    /// Those of a shard.
    Shard(Shard),
    /// None: it merges the results of so many shards.
    Merged(u32),
}

/// What a shard has done, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The step, such as `files`.
    pub step: &'static str,
    /// Number of shards.
    pub shards: u32,
    /// Those that have not done this step.
    pub missing: Vec<u32>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Shards that are named.
        const NAMED: usize = 10;
        let Waiting { step, shards, missing } = self;
        if missing.is_empty() {
            return write!(f, "{step}: done by all {shards} shards");
        }
        if missing.len() == *shards as usize {
            return write!(f, "{step}: done by none of {shards} shards");
        }
        let named: Vec<String> = missing.iter().take(NAMED).map(u32::to_string).collect();
        let more = if missing.len() > NAMED { ", ..." } else { "" };
        write!(f, "{step}: not done by {} of {shards} shards ({}{more})", missing.len(), named.join(", "))
    }
}
