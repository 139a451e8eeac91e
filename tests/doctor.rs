//! `wbc doctor`, `wbc completions`, `wbc man`.

use crate::common::Workdir;
use serde_json::Value;
use std::process::{Command, Stdio};

#[test]
fn doctor_reports_the_machine_and_the_workspace() {
    let w = Workdir::new("doctor");
    let report_of = |args: &[&str]| -> Value {
        serde_json::from_str(&w.wbc(&[&["doctor", "--json"], args].concat()).stdout).unwrap()
    };
    let report = report_of(&[]);
    assert_eq!(report["build"]["wbc"], env!("CARGO_PKG_VERSION"));
    assert!(report["build"]["rustc"].as_str().unwrap().starts_with("rustc 1."), "{report}");
    assert!(report["build"]["dfdx"].as_str().unwrap().starts_with("0.13"), "{report}");
    assert_eq!(report["machine"]["vectors"], wbc::nn::Vector::detect().name());
    let memory = &report["machine"];
    let (all, free) = (memory["memory_bytes"].as_u64().unwrap(), memory["memory_available_bytes"].as_u64().unwrap());
    assert!(all > 100_000_000 && free <= all, "{report}");
    let place = &report["workspace"];
    assert_eq!((&place["exists"], &place["writable"]), (&false.into(), &true.into()));
    assert!(!w.path("data").exists(), "doctor creates nothing");

    w.wbc(&["synth", "--images", "40"]).ok();
    w.wbc(&["ingest"]);
    w.wbc(&["split", "--stratified"]).exits(1);
    w.write("data/raw/new/neutrophil/1.png", "");
    w.write("data/runs/some-run/run.json", "{}");
    w.write("data/runs/no-run/other.json", "{}");
    let place = &report_of(&["--threads", "1"])["workspace"];
    let expected = serde_json::json!([
        {"name": "new", "has": ["raw"]},
        {"name": "synthetic", "has": ["raw", "ingested", "split"]},
    ]);
    assert_eq!((&place["datasets"], &place["runs"]), (&expected, &serde_json::json!(["some-run"])));
    let text = w.wbc(&["doctor"]).stdout;
    for expected in ["vectors", "memory", "GPU", "synthetic: raw, ingested, split", "runs: some-run"] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn doctor_reports_problems() {
    let w = Workdir::new("doctor-wrong");
    w.write("file", "");
    let mut command = w.command(&["doctor", "--workspace", "file/data"]);
    let output = command.env("WBC_EPOCH", "3").env("WBC_SEED", "4").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("Problems: file/data: expected a folder, found a file"), "{text}");
    assert!(text.contains("WBC_EPOCH is set, but wbc does not read it") && text.contains("WBC_EPOCHS"), "{text}");
    assert!(text.contains("WBC_SEED=4") && !text.contains("WBC_SEED is set"), "{text}");
    // A missing or failing nvidia-smi is reported, and no problem for a build without CUDA.
    if cfg!(unix) {
        for (script, expected) in [
            ("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 550.1'", "GPU        NVIDIA H100, 81559 MiB, 550.1"),
            ("#!/bin/sh\necho no driver; exit 9", "nvidia-smi fails: no driver"),
            ("#!/bin/sh\nexit 0", "finds no device"),
        ] {
            let path = w.write("bin/nvidia-smi", script);
            Command::new("chmod").arg("+x").arg(&path).status().unwrap();
            let path = format!("{}:{}", w.path("bin").display(), std::env::var("PATH").unwrap_or_default());
            let output = w.command(&["doctor"]).env("PATH", path).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(expected), "{text}");
        }
    }
}

#[test]
fn completions_include_every_command() {
    let w = Workdir::new("completions");
    let commands = w.commands();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = w.wbc(&["completions", shell]).ok().stdout;
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
        assert!(script.contains("workspace"), "{shell}");
        if ["bash", "zsh", "fish"].contains(&shell) {
            let parser = Command::new(shell).arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
            let Ok(mut parser) = parser else {
                eprintln!("skipped: no {shell} to parse its completions");
                continue;
            };
            std::io::Write::write_all(&mut parser.stdin.take().unwrap(), script.as_bytes()).unwrap();
            let output = parser.wait_with_output().unwrap();
            assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let refused = w.wbc(&["completions", "tcsh"]).exits(2).stderr;
    assert!(refused.contains("bash"), "{refused}");
}

#[test]
fn every_command_has_a_manual_page() {
    let w = Workdir::new("man");
    let top = w.wbc(&["man"]).ok().stdout;
    let written: Value = serde_json::from_str(&w.wbc(&["man", "pages", "--json"]).ok().stdout).unwrap();
    let commands = w.commands();
    assert_eq!(written["files"].as_array().unwrap().len(), commands.len() + 1);
    assert_eq!(std::fs::read_to_string(w.path("pages/wbc.1")).unwrap(), top);
    for command in &commands {
        assert!(top.contains(&format!("wbc\\-{command}(1)")), "{command}");
        let page = std::fs::read_to_string(w.path(format!("pages/wbc-{command}.1"))).unwrap();
        // The long help has a description, not only the summary.
        let long = w.wbc(&[command, "--help"]).ok().stdout;
        let short = w.wbc(&[command, "-h"]).ok().stdout;
        assert!(long.lines().next() != short.lines().next(), "{command}: {long}");
        assert!(long.contains("Options of every command") && long.contains("--workspace"), "{command}: {long}");
        for part in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH DESCRIPTION", "\\-\\-workspace"] {
            assert!(page.contains(part), "{command}: no {part}");
        }
    }
}
