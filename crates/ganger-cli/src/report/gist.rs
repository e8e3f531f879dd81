//! The one line of a dead worker's last words that says why it died.

/// So many last words are shown.
const SHOWN: usize = 12;

/// The line that names the error, in the ways of Node, Python, Rust and most others; else the last one.
pub(crate) fn gist(words: &[String]) -> Option<String> {
    let lines: Vec<&str> = words.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    let panic = lines.iter().rposition(|line| line.contains("panicked at "));
    let error = lines.iter().rposition(|line| names_an_error(line));
    match (panic, error) {
        // Rust says where in one line and what in the next.
        (Some(at), _) => {
            let place = lines[at].split_once("panicked at ").map_or(lines[at], |(_, place)| place);
            let message = lines.get(at + 1).filter(|line| !line.starts_with("note:")).unwrap_or(&"");
            Some(format!("panicked at {place} {message}").trim_end().to_owned())
        }
        (None, Some(at)) => Some(lines[at].to_owned()),
        (None, None) => {
            let says = |line: &&str| line.contains(char::is_alphanumeric) && !line.starts_with("Node.js v");
            lines.into_iter().rfind(says).map(str::to_owned)
        }
    }
}

/// The last words from the line of the error on, or the last of them; no more than a screen's part.
pub(super) fn from_the_error(words: &[String]) -> impl Iterator<Item = &String> {
    let error = words.iter().rposition(|line| line.contains("panicked at ") || names_an_error(line.trim()));
    let first = error.unwrap_or(words.len().saturating_sub(SHOWN));
    words[first..].iter().filter(|line| !line.trim().is_empty()).take(SHOWN)
}

/// Whether these words say that a port was taken.
pub(crate) fn says_address_in_use(gist: &str) -> bool {
    let gist = gist.to_ascii_lowercase();
    gist.contains("eaddrinuse") || gist.contains("address already in use") || gist.contains("address in use")
}

/// `TypeError: …`, `AssertionError [ERR_ASSERTION]: …`, `builtins.ValueError: …`, `Uncaught Error: …`.
fn names_an_error(line: &str) -> bool {
    let Some((name, _)) = line.split_once(':') else { return false };
    let name = name.strip_prefix("Uncaught ").unwrap_or(name);
    let name = name.split_once(" [").map_or(name, |(name, _)| name);
    let is_name = |name: &str| name.chars().all(|char| char.is_alphanumeric() || char == '.' || char == '_');
    is_name(name)
        && (name.ends_with("Error") || name.ends_with("Exception") || name == "error" || name == "fatal")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &str, expected: Option<&str>) {
        let words: Vec<String> = words.lines().map(str::to_owned).collect();
        assert_eq!(gist(&words).as_deref(), expected);
    }

    #[test]
    fn the_line_that_says_why() {
        check("", None);
        check("\n\n", None);
        check("all is lost\n", Some("all is lost"));
        check(
            "/app/a.js:1\nthrow new Error('boom')\n^\n\nError: boom\n    at Object.<anonymous> (/app/a.js:1:7)\n\nNode.js v20.20.2",
            Some("Error: boom"),
        );
        check(
            "Error: listen EADDRINUSE: address already in use :::80\n    at x\n  code: 'EADDRINUSE',\n}",
            Some("Error: listen EADDRINUSE: address already in use :::80"),
        );
        check("AssertionError [ERR_ASSERTION]: no\n    at x", Some("AssertionError [ERR_ASSERTION]: no"));
        check("Traceback (most recent call last):\n  File\nValueError: no", Some("ValueError: no"));
        check(
            "\nthread 'main' (12) panicked at src/main.rs:2:5:\nboom\nnote: run with `RUST_BACKTRACE=1`",
            Some("panicked at src/main.rs:2:5: boom"),
        );
        check("out of luck\nNode.js v20.20.2", Some("out of luck"));
    }

    #[test]
    fn a_taken_port() {
        assert!(says_address_in_use("Error: listen EADDRINUSE: address already in use :::80"));
        assert!(says_address_in_use("bind: Address already in use"));
        assert!(!says_address_in_use("Error: no address"));
    }
}
