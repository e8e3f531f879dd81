//! docs/interop.md: one table a direction, a row a feature, as it was seen.

use std::{env, fmt::Write, fs};

use libtest_mimic::Failed;

use crate::{
    known::Verdict,
    pair::{Cell, FEATURES, Peer},
};

/// Writes the page anew.
const UPDATE: &str = "GANGER_UPDATE";

const HEAD: &str = "\
# Messages and handles between runtimes

<!-- Made by `cargo test -p ganger --test pairs`, which fails where it says something else than what was seen. With
     GANGER_UPDATE=1 in its environment the test writes this page anew. -->

Each cell was seen: a parent has started a child, both have done what the row says, and both have ended by themselves with
exit code 0; or it was seen not to work, for the reason at the end. The versions are those of `cargo xtask fetch`
(`xtask/src/fetch.rs`), the programs `rust.rs` and `program.cjs` in
`crates/ganger/tests/pairs`; the reasons are in `known.rs` there.
";

const ORACLE: &str =
    "Without Rust: the same program on both sides, to tell what is ours from what is theirs.";

/// Compares the page with what was seen.
pub(crate) fn check(cells: &[Cell]) -> Result<(), Failed> {
    let page = render(cells);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/interop.md");
    if env::var_os(UPDATE).is_some_and(|value| !value.is_empty()) {
        fs::write(path, page)?;
        return Ok(());
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    let wrong: Vec<_> = cells.iter().filter(|cell| !cell.is_as_expected()).map(Cell::to_string).collect();
    match (written == page, wrong.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Err(format!("docs/interop.md is out of date: run this test with {UPDATE}=1").into()),
        (false, false) => Err(format!("these are not as docs/interop.md says:\n{}", wrong.join("\n")).into()),
    }
}

fn render(cells: &[Cell]) -> String {
    let mut page = HEAD.to_owned();
    let mut reasons = Vec::new();
    let rust_parent = |cell: &&Cell| cell.parent == Peer::Rust;
    let rust_child = |cell: &&Cell| cell.child == Peer::Rust && cell.parent != Peer::Rust;
    let neither = |cell: &&Cell| cell.child != Peer::Rust && cell.parent != Peer::Rust;
    let tables: [(&str, &str, Vec<&Cell>); 3] = [
        ("A Rust parent", "The child is", cells.iter().filter(rust_parent).collect()),
        ("A Rust child", "The parent is", cells.iter().filter(rust_child).collect()),
        ("Without Rust", ORACLE, cells.iter().filter(neither).collect()),
    ];
    for (title, text, cells) in tables {
        let columns: Vec<&Cell> =
            cells.iter().copied().filter(|cell| cell.feature == FEATURES[0].0).collect();
        let named = |cell: &&Cell| match (cell.parent, cell.child) {
            (Peer::Rust, child) => child.to_string(),
            (parent, Peer::Rust) => parent.to_string(),
            (parent, child) => format!("{parent} → {child}"),
        };
        let names: Vec<String> = columns.iter().map(named).collect();
        write!(
            page,
            "\n## {title}\n\n{text}\n\n| | {} |\n|---{}|\n",
            names.join(" | "),
            "|---".repeat(names.len())
        )
        .unwrap();
        for (feature, name) in FEATURES {
            let row = cells.iter().filter(|cell| cell.feature == feature);
            let row: Vec<String> = row.map(|cell| shown(cell, &mut reasons)).collect();
            writeln!(page, "| {name} | {} |", row.join(" | ")).unwrap();
        }
    }
    page.push_str("\n## Reasons\n\n");
    for (number, reason) in (1..).zip(&reasons) {
        writeln!(page, "{number}. {reason}").unwrap();
    }
    page
}

/// A cell, with the number of its reason.
fn shown(cell: &Cell, reasons: &mut Vec<&'static str>) -> String {
    let mut number = |reason| {
        let known = reasons.iter().position(|other| *other == reason);
        known.unwrap_or_else(|| {
            reasons.push(reason);
            reasons.len() - 1
        }) + 1
    };
    match (cell.verdict(), cell.seen()) {
        (Verdict::Fails(reason), Err(_)) => format!("no <sup>{}</sup>", number(reason)),
        (_, Ok(())) => "yes".into(),
        (Verdict::Works, Err(_)) => "NO".into(),
    }
}
