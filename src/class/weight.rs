//! Weights of classes in training, against classes that are rarer than others.

use super::{Class, Classes};
use crate::error::{Error, Result};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

/// The setting `train.class_weight`.
#[derive(Clone, Debug, PartialEq)]
pub enum ClassWeight {
    /// `"balanced"`: in inverse proportion to the number of training images of the class.
    Balanced,
    /// `{ basophil = 5.0 }`: as given; 1 for all other classes.
    Given(BTreeMap<Class, f64>),
}

impl ClassWeight {
    /// Checks the weights.
    ///
    /// # Errors
    /// [`Error::Setting`] for a weight that is not above 0.
    pub fn validate(&self) -> Result<()> {
        let Self::Given(weights) = self else { return Ok(()) };
        match weights.iter().find(|(_, weight)| !(**weight > 0.0 && weight.is_finite())) {
            Some((class, weight)) => Err(Error::setting(format!("train.class_weight.{class}"), "above 0", weight)),
            None => Ok(()),
        }
    }

    /// The weight of each class, in class order. `images` is the number of training images of each class; the mean
    /// weight of a training image is 1, so that the learning rate keeps its meaning.
    ///
    /// # Errors
    /// [`Error::Setting`] for a class that is not in `classes`.
    pub fn weights(&self, classes: &Classes, images: &[u64]) -> Result<Vec<f64>> {
        let raw: Vec<f64> = match self {
            Self::Balanced => images.iter().map(|n| if *n > 0 { 1.0 / *n as f64 } else { 1.0 }).collect(),
            Self::Given(weights) => {
                if let Some(unknown) = weights.keys().find(|class| classes.index(**class).is_none()) {
                    return Err(Error::setting("train.class_weight", format!("classes among: {classes}"), unknown));
                }
                classes.iter().map(|class| weights.get(&class).copied().unwrap_or(1.0)).collect()
            }
        };
        let sum: f64 = raw.iter().zip(images).map(|(weight, n)| weight * *n as f64).sum();
        let all: u64 = images.iter().sum();
        let scale = if sum > 0.0 { all as f64 / sum } else { 1.0 };
        Ok(raw.into_iter().map(|weight| weight * scale).collect())
    }
}

impl Serialize for ClassWeight {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Balanced => serializer.serialize_str("balanced"),
            Self::Given(weights) => weights.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ClassWeight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Weights;
        impl<'de> Visitor<'de> for Weights {
            type Value = ClassWeight;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("\"balanced\", or weights of classes such as { basophil = 5.0 }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<ClassWeight, E> {
                match text {
                    "balanced" => Ok(ClassWeight::Balanced),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<ClassWeight, A::Error> {
                let mut weights = BTreeMap::new();
                while let Some((class, weight)) = map.next_entry()? {
                    weights.insert(class, weight);
                }
                Ok(ClassWeight::Given(weights))
            }
        }
        deserializer.deserialize_any(Weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_a_mean_of_one_over_the_training_images() {
        #[derive(Deserialize, Serialize)]
        struct Table {
            class_weight: ClassWeight,
        }
        let parse = |text: &str| toml::from_str::<Table>(text).map(|table| table.class_weight);
        let classes = Classes::named(["a", "b", "c"].map(Class::new));
        let images = [80, 20, 0];
        let balanced = parse("class_weight = \"balanced\"").unwrap();
        assert_eq!(balanced.weights(&classes, &images).unwrap()[..2], [0.625, 2.5]);
        let given = parse("class_weight = { b = 5.0 }").unwrap();
        let weights = given.weights(&classes, &images).unwrap();
        assert!((weights[1] / weights[0] - 5.0).abs() < 1e-12);
        assert!((0.8 * weights[0] + 0.2 * weights[1] - 1.0).abs() < 1e-12, "{weights:?}");
        for weight in [balanced, given] {
            let text = serde_json::to_string(&weight).unwrap();
            assert_eq!(serde_json::from_str::<ClassWeight>(&text).unwrap(), weight);
        }
        assert!(parse("class_weight = \"even\"").unwrap_err().to_string().contains("{ basophil = 5.0 }"));
        let unknown = parse("class_weight = { d = 2.0 }").unwrap().weights(&classes, &images).unwrap_err();
        assert!(unknown.to_string().contains("among: a, b, c"), "{unknown}");
        assert!(parse("class_weight = { a = 0.0 }").unwrap().validate().is_err());
    }
}
