//! What the fuzz targets check, run over their corpus: what once was interesting stays so, without cargo-fuzz.
//!
//! The same files are included by `fuzz/fuzz_targets`, each of which is one line.

mod frames;
mod json_frames;
mod session_ops;
mod v8;

use std::{fs, path::Path};

/// Runs every file of a target's corpus.
#[track_caller]
fn run(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    // A published crate comes without the corpus.
    let Ok(files) = fs::read_dir(&corpus) else { return };
    let mut count = 0;
    for file in files {
        let path = file.expect("the corpus is a directory of files").path();
        println!("{}", path.display());
        check(&fs::read(&path).expect("a file can be read"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
}

#[test]
fn corpus_of_json_frames() {
    run("json_frames", json_frames::check);
}

#[test]
fn corpus_of_v8() {
    run("v8", v8::check);
}

#[test]
fn corpus_of_frames() {
    run("frames", frames::check);
}

#[test]
fn corpus_of_session_ops() {
    run("session_ops", session_ops::check);
}
