//! The shell scripts of jobs: plain enough to be read, changed and sent by hand.

use super::job::Arguments;
use super::plan::{Engine, Plan, reported, reporting};
use super::rounds::{DONE, Round, Sharded};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A word as the shell reads it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./=:,+-@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn call(arguments: &Arguments) -> String {
    arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// The start of every script: what it is for, `lines` for the scheduler, and the program.
fn head(what: &str, lines: &[String], plan: &Plan) -> String {
    let mut text = format!("#!/bin/bash\n# {what}\n# Written by `wbc submit`, which writes it again.\n");
    lines.iter().for_each(|line| writeln!(text, "#SBATCH {line}").expect("a string"));
    // Variables such as WBC_SEED were read when the script was written.
    write!(text, "\nunset \"${{!WBC_@}}\"\ncd {} || exit 1\nwbc={}\n", path(&plan.folder), path(&plan.program))
        .expect("a string");
    text
}

/// Writes what the tasks read.
pub fn prepare(plan: &Plan, lines: &[String]) -> String {
    let mut text = head("Prepares what the training reads.", lines, plan) + "\nset -e\n";
    for arguments in &plan.prepare {
        writeln!(text, "\"$wbc\" {}", call(arguments)).expect("a string");
    }
    text + &ending()
}

/// A round of work in shards. Exit status 1 says that there are findings, which is no failure.
pub fn round(plan: &Plan, work: &Sharded, round: Round, lines: &[String]) -> String {
    let (what, option) = match round {
        Round::Shards => {
            ("Works on the images: each task of the array on its share.", "--shard \"$SLURM_ARRAY_TASK_ID/")
        }
        Round::Merge => ("Puts together what the shards found.", "--merge \""),
    };
    let mut text = head(what, lines, plan) + "\n";
    for arguments in &work.calls {
        let call = call(arguments);
        writeln!(
            text,
            "\"$wbc\" {call} {option}{}\" --threads \"${{SLURM_CPUS_PER_TASK:-1}}\" || [ $? = 1 ] || exit 2",
            work.shards
        )
        .expect("a string");
    }
    text + &ending()
}

/// The end of a script whose log says whether it did its work.
fn ending() -> String {
    format!("# By this line `wbc status` knows that the work was done.\necho {}\n", quoted(DONE))
}

/// Trains one model per task of an array. `lines` are for the scheduler.
pub fn train(plan: &Plan, engine: &dyn Engine, lines: &[String]) -> String {
    let mut text = head("Trains the models of runs: each task of the array one model.", lines, plan);
    text.push_str(
        r#"
# train FOLDER MODEL ARGUMENTS...: trains a model of a run; FOLDER has its log, in the folder of the run.
train() {
    local log=$1/${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}.log checkpoint=$1/../$2/checkpoint.safetensors
    shift 2
    if ! [ /dev/stdout -ef "$log" ]; then
        # Slurm made a log in the folder of the first run.
        [ -s "$first_log" ] || rm -f "$first_log"
        exec >>"$log" 2>&1
    fi
    local before after status
    before=$(stat -c %Y "$checkpoint" 2>/dev/null)
    "$wbc" "$@" --threads "${SLURM_CPUS_PER_TASK:-1}" &
    child=$!
    wait "$child"
    status=$?
    # A signal ends `wait`, but not the training, which stops after its current step.
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        status=$?
    done
    [ $status = 0 ] && exit 0
    # Near its time limit the job goes back to the queue, and later on from its last epoch. A job that Slurm itself
    # sends back, or that was cancelled, is no longer RUNNING.
    if [ -n "$stopped" ] && [ "$(squeue --noheader --job "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then
        after=$(stat -c %Y "$checkpoint" 2>/dev/null)
        if [ "$after" != "$before" ]; then
            echo "out of time: back to the queue"
            scontrol requeue "$SLURM_JOB_ID"
            sleep 60
        else
            echo "out of time before the end of an epoch: the job needs a longer time limit (slurm.time, or --time)"
        fi
    fi
    exit $status
}

stopped=
child=
stop() {
    echo "Slurm ends this job: it is near its time limit, or was cancelled or preempted"
    stopped=yes
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap stop TERM

"#,
    );
    let first = plan.jobs(&plan.runs[0], engine);
    writeln!(text, "first_log={}/${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}.log", path(&first))
        .expect("a string");
    text.push_str("case $SLURM_ARRAY_TASK_ID in\n");
    for (i, task) in plan.tasks.iter().enumerate() {
        let (folder, model) = (plan.jobs(&task.run, engine), task.model.folder_name());
        writeln!(text, "{i}) train {} {model} {} ;;", path(&folder), call(&task.arguments)).expect("a string");
    }
    text.push_str("*) echo \"no task $SLURM_ARRAY_TASK_ID\"; exit 1 ;;\nesac\n");
    text
}

/// Puts the results together.
pub fn report(plan: &Plan, engine: &dyn Engine, lines: &[String]) -> String {
    let files = |file: fn(&Path) -> PathBuf| plan.runs.iter().map(move |run| path(&file(&plan.jobs(run, engine))));
    let begun = files(reporting).collect::<Vec<_>>().join(" ");
    let mut text = head("Puts the results together, of the models that were trained.", lines, plan);
    writeln!(text, "\nstatus=0\ntouch {begun}").expect("a string");
    for arguments in &plan.report {
        writeln!(text, "\"$wbc\" {} || status=$?", call(arguments)).expect("a string");
    }
    // By these files `wbc submit` knows that there is a report, and of when.
    text.push_str("[ $status = 0 ] || exit $status\n");
    for (begun, done) in files(reporting).zip(files(reported)) {
        writeln!(text, "mv {begun} {done}").expect("a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_shell_as_they_are() {
        for word in ["plain-1", "", "two words", "it's", "$HOME", "a;b", "*", "é", "\"", "\\"] {
            let output = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output();
            assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), word);
        }
    }
}
