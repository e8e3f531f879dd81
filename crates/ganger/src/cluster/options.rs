//! What of a Node's arguments are options of its own, and where they have it inspected.

use std::ffi::{OsStr, OsString};

/// Node's `process.debugPort`, where nothing says another.
const PORT: u16 = 9229;
/// The lowest port that is counted on to: Node's `kMinPort`.
const LOWEST: u16 = 1024;
/// The options that have a Node inspected, or say at which port it would be.
const INSPECTORS: [&str; 6] =
    ["--inspect", "--inspect-brk", "--inspect-brk-node", "--inspect-wait", "--inspect-port", "--debug-port"];

/// The options, of all Nodes from 18 to 26, whose value may be an argument of its own (`AddOption` and `AddAlias` in
/// `src/node_options.cc`).
const WITH_VALUE: &str = "
    -C -e -p -pe -r --allow-fs-read --allow-fs-write --bench-isolation --bench-name-pattern --bench-reporter
    --bench-reporter-destination --bench-samples --bench-warmup --build-sea --build-snapshot-config --conditions
    --cpu-prof-dir --cpu-prof-interval --cpu-prof-name --debug-port --diagnostic-dir --disable-proto --disable-warning
    --dns-result-order --env-file --env-file-if-exists --es-module-specifier-resolution --eval
    --experimental-config-file --experimental-default-type --experimental-loader --experimental-package-map
    --experimental-policy --experimental-sea-config --experimental-specifier-resolution --experimental-test-isolation
    --experimental-test-tag-filter --heap-prof-dir --heap-prof-interval --heap-prof-name
    --heapsnapshot-near-heap-limit --heapsnapshot-signal --icu-data-dir --import --input-type --inspect-port
    --inspect-publish-uid --loader --localstorage-file --max-http-header-size --max-old-space-size-percentage
    --network-family-autoselection-attempt-timeout --openssl-config --policy-integrity --print --redirect-warnings
    --report-dir --report-directory --report-filename --report-signal --require --run --secure-heap --secure-heap-min
    --security-revert --security-reverts --snapshot-blob --stack-trace-limit --test-concurrency
    --test-coverage-branches --test-coverage-exclude --test-coverage-functions --test-coverage-include
    --test-coverage-lines --test-global-setup --test-isolation --test-name-pattern --test-random-seed --test-reporter
    --test-reporter-destination --test-rerun-failures --test-shard --test-skip-pattern --test-timeout --title
    --tls-cipher-list --tls-keylog --trace-event-categories --trace-event-file-pattern --trace-require-module
    --unhandled-rejections --use-largepages --v8-pool-size --vfs-load --vfs-mount --watch-kill-signal --watch-path";

/// A Node's own option, and what comes behind it.
#[derive(Debug)]
pub(super) struct NodeOption<'a> {
    pub(super) name: &'a str,
    value: Option<&'a str>,
    /// How many arguments there are up to its end.
    end: usize,
}

/// Node's own options: what stands before the script, without the values that are arguments of their own.
pub(super) fn own(args: &[OsString]) -> impl Iterator<Item = NodeOption<'_>> {
    let mut end = 0;
    std::iter::from_fn(move || {
        let text = args.get(end).map(|arg| text_of(arg)).filter(|arg| arg.starts_with('-'))?;
        end += 1;
        if ["-", "--"].contains(&text) {
            return None;
        }
        let (name, mut value) =
            text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        // What looks like an option is no value.
        let next = args.get(end).map(|arg| text_of(arg)).filter(|next| !next.starts_with('-'));
        if let Some(next) = next.filter(|_| value.is_none() && takes_value(name)) {
            value = Some(next);
            end += 1;
        }
        Some(NodeOption { name, value, end })
    })
}

/// As much of it as is text, which all names of options are.
fn text_of(arg: &OsStr) -> &str {
    let bytes = arg.as_encoded_bytes();
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

fn takes_value(name: &str) -> bool {
    WITH_VALUE.split_whitespace().any(|option| option == name)
}

/// Gives the inspector of a worker a port of its own, if its arguments or its `NODE_OPTIONS` have it inspected
/// (`createWorkerProcess` in `lib/internal/cluster/primary.js`, `isUsingInspector` and `getInspectPort` in
/// `lib/internal/util/inspector.js`), and says whether they do. `count` is how many got one before.
pub(super) fn inspect(
    args: &mut Vec<OsString>,
    variable: Option<&OsStr>,
    port: Option<u16>,
    count: &mut u16,
) -> bool {
    let variable = variable.unwrap_or_default().to_string_lossy();
    let words: Vec<_> = variable.split([' ', '"']).map(OsString::from).collect();
    // Each word for itself: what is quoted may have spaces in it.
    let mut inspectors: Vec<_> = (0..words.len()).flat_map(|at| own(&words[at..]).next()).collect();
    inspectors.extend(own(args));
    inspectors.retain(|option| INSPECTORS.contains(&option.name));
    if inspectors.is_empty() {
        return false;
    }
    // The last one counts.
    let said = inspectors.iter().rev().find_map(|option| option.value?.rsplit(':').next()?.parse().ok());
    let port = port.unwrap_or_else(|| match said.unwrap_or(PORT) {
        0 => 0,
        first => {
            *count = count.wrapping_add(1);
            first.checked_add(*count).unwrap_or_else(|| first.wrapping_add(*count).wrapping_add(LOWEST))
        }
    });
    let last = own(args).filter(|option| INSPECTORS.contains(&option.name)).last();
    args.insert(last.map_or(0, |option| option.end), format!("--inspect-port={port}").into());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn options_end_at_the_script() {
        let check = |line: &str, names: &str| {
            let args = words(line);
            let own: Vec<_> = own(&args).map(|option| option.name).collect();
            assert_eq!(own.join(" "), names, "{line}");
        };
        check("app.js --inspect", "");
        check("-r x --inspect app.js -r", "-r --inspect");
        check("--require=x app.js --inspect", "--require");
        check("--import ./x.mjs -C a --env-file .env app.js --inspect", "--import -C --env-file");
        check("--inspect 9300 --inspect-brk", "--inspect");
        check("-e 0 --inspect", "-e --inspect");
        check("-p --inspect", "-p --inspect");
        check("--enable-source-maps -- --inspect", "--enable-source-maps");
        check("- --inspect", "");
        check("-r", "-r");
    }

    #[test]
    fn whoever_is_inspected_gets_a_port_of_its_own() {
        let check = |line: &str, variable: &str, port, expected: Option<&str>| {
            let (mut args, mut count) = (words(line), 0);
            let is_inspected = inspect(&mut args, Some(variable.as_ref()), port, &mut count);
            assert_eq!(is_inspected, expected.is_some(), "{line}, {variable}");
            assert_eq!(args, words(expected.unwrap_or(line)), "{line}, {variable}");
        };
        check("app.js --inspect", "", None, None);
        check("-r --inspect app.js", "", None, Some("-r --inspect --inspect-port=9230 app.js"));
        check("--inspect app.js", "", None, Some("--inspect --inspect-port=9230 app.js"));
        check("--inspect -r x app.js", "", None, Some("--inspect --inspect-port=9230 -r x app.js"));
        check("-r x --inspect-brk app.js", "", None, Some("-r x --inspect-brk --inspect-port=9230 app.js"));
        check(
            "--inspect-port 99 --inspect a.js",
            "",
            None,
            Some("--inspect-port 99 --inspect --inspect-port=100 a.js"),
        );
        check("--inspect=[::1]:65535 a.js", "", None, Some("--inspect=[::1]:65535 --inspect-port=1024 a.js"));
        check("--inspect=0 a.js", "", None, Some("--inspect=0 --inspect-port=0 a.js"));
        check("--inspect=1 a.js", "", Some(70), Some("--inspect=1 --inspect-port=70 a.js"));
        check("a.js", "--inspect", None, Some("--inspect-port=9230 a.js"));
        check("-r x a.js", "-r x --inspect=5000", None, Some("--inspect-port=5001 -r x a.js"));
        check("a.js", "-r \"a b\" --inspect-port 7 --inspect", None, Some("--inspect-port=8 a.js"));
        check("--inspect=5 a.js", "--inspect=50", None, Some("--inspect=5 --inspect-port=6 a.js"));
        check("a.js", "--no-inspect --title=--inspect", None, None);
    }
}
