//! The hints' files, on disk for as long as workers may be started or may start threads of their own, which read them
//! again.
//!
//! They lie in a directory of their own that only this user (and root) can write to, in one where nobody else can
//! rename it: the directory for temporary files, or another one that can be written even where a container's root cannot.
//! It is locked, which keeps cleaners of old files away, and shows the next primary what the last one had no time to
//! remove.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ganger_proto::node::hints::{GRACEFUL_NAME, GRACEFUL_SOURCE, NAME, SOURCE};
use rustix::fs::{FlockOperation, OFlags, flock};

/// Where the directory may be made, the best first; before them comes what is meant for temporary files.
const PLACES: [&str; 3] = ["/dev/shm", "/var/tmp", "/run"];
/// What its name begins with; the process's number follows, and a running one.
const PREFIX: &str = "ganger-";
/// A worker may be another user.
const TO_PASS: u32 = 0o711;
const TO_READ: u32 = 0o444;
/// So many names are tried.
const NAMES: u32 = 64;

/// The files, made when the first worker wants them.
#[derive(Debug, Default)]
pub(super) struct Hints {
    place: Option<Place>,
}

impl Hints {
    /// The options that put the hints before a program of Node's.
    ///
    /// # Errors
    /// If there is no place for the files.
    pub(super) fn options(&mut self, graceful: bool) -> io::Result<Vec<OsString>> {
        // Whoever removed them has not done it for good.
        let place = match self.place.take().filter(Place::is_intact) {
            Some(place) => place,
            None => Place::find(&places())?,
        };
        let mut names = vec![NAME];
        names.extend(graceful.then_some(GRACEFUL_NAME));
        let option = |name| {
            let mut option = OsString::from("--require=");
            option.push(place.directory.join(name));
            option
        };
        let options = names.into_iter().map(option).collect();
        self.place = Some(place);
        Ok(options)
    }
}

/// Whether a Node with these arguments can have the hints: what it is to run is not a debugger's business, and it can
/// read files that it was not told of.
pub(super) fn are_taken_with(args: &[OsString]) -> bool {
    let is_option = |arg: &&OsString| arg.as_encoded_bytes().starts_with(b"-");
    let mut options = args.iter().take_while(is_option).map(|arg| arg.to_string_lossy());
    let is_strict = |option: &str| REFUSED_WITH.iter().any(|strict| option.starts_with(strict));
    args.first().is_none_or(|first| first != "inspect") && !options.any(|option| is_strict(&option))
}

/// Node's options that restrict what may be read: 20's permissions (from 22 on `--require` is allowed what it names),
/// and policies.
const REFUSED_WITH: [&str; 3] = ["--experimental-permission", "--experimental-policy", "--policy-integrity"];

fn places() -> Vec<PathBuf> {
    std::iter::once(env::temp_dir()).chain(PLACES.map(PathBuf::from)).collect()
}

/// A directory with the files in it, locked.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    /// The lock is on it.
    _lock: File,
    /// The files, in the order of their names, by device and number.
    files: [(u64, u64); 2],
}

const FILES: [(&str, &str); 2] = [(NAME, SOURCE), (GRACEFUL_NAME, GRACEFUL_SOURCE)];

impl Place {
    /// In the first of these that takes it.
    fn find(places: &[PathBuf]) -> io::Result<Self> {
        let mut first = None;
        for place in places {
            match Self::make_in(place) {
                Ok(place) => return Ok(place),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        // Node names files by their real paths, and looks for itself among its options.
        let parent = parent.canonicalize()?;
        if !is_safe(&parent)? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can rename what is in it"));
        }
        sweep(&parent);
        for number in 0..NAMES {
            let directory = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match DirBuilder::new().mode(TO_PASS).create(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => match Self::fill(&directory) {
                    Err(error) => {
                        remove(&directory);
                        return Err(error);
                    }
                    // Somebody who swept was faster.
                    Ok(None) => {}
                    Ok(Some(place)) => return Ok(place),
                },
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn fill(directory: &Path) -> io::Result<Option<Self>> {
        let Some(lock) = lock(directory)? else { return Ok(None) };
        // The umask has had its say.
        lock.set_permissions(Permissions::from_mode(TO_PASS))?;
        let write = |(name, text): (&str, &str)| {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(TO_READ).open(directory.join(name))?;
            file.write_all(text.as_bytes())?;
            file.set_permissions(Permissions::from_mode(TO_READ))?;
            let known = file.metadata()?;
            Ok::<_, io::Error>((known.dev(), known.ino()))
        };
        let [hints, graceful] = FILES;
        let files = [write(hints)?, write(graceful)?];
        Ok(Some(Self { directory: directory.into(), _lock: lock, files }))
    }

    fn is_intact(&self) -> bool {
        FILES.iter().zip(self.files).all(|((name, _), known)| {
            let found = fs::symlink_metadata(self.directory.join(name));
            found.is_ok_and(|found| (found.dev(), found.ino()) == known)
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// Whether nobody but this user and root can rename or remove what this user makes in it.
fn is_safe(directory: &Path) -> io::Result<bool> {
    let known = fs::metadata(directory)?;
    let is_trusted = [0, rustix::process::geteuid().as_raw()].contains(&known.uid());
    let (is_sticky, is_others) = (known.mode() & 0o1000 != 0, known.mode() & 0o022 != 0);
    Ok(is_trusted && (is_sticky || !is_others))
}

/// Opens and locks a directory; none if somebody else has it, or it is not there any more.
fn lock(directory: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let flags = flags.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    // Whoever had it before may have removed it.
    let (known, found) = (file.metadata()?, fs::symlink_metadata(directory));
    let is_there = found.is_ok_and(|found| (found.dev(), found.ino()) == (known.dev(), known.ino()));
    Ok(is_there.then_some(file))
}

/// Removes what primaries have left that were killed.
fn sweep(parent: &Path) {
    // What cannot be read or removed stays.
    let Ok(entries) = fs::read_dir(parent) else { return };
    let me = rustix::process::geteuid().as_raw();
    for entry in entries.flatten().filter(|entry| is_ours(&entry.file_name())) {
        let path = entry.path();
        if entry.metadata().is_ok_and(|known| known.is_dir() && known.uid() == me)
            && let Ok(Some(_lock)) = lock(&path)
        {
            remove(&path);
        }
    }
}

fn is_ours(name: &OsStr) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
    numbers.is_some_and(|(pid, number)| is_number(pid) && is_number(number))
}

/// Removes a directory, if nothing is in it but the files.
fn remove(directory: &Path) {
    for (name, _) in FILES {
        // It may never have been written.
        let _ = fs::remove_file(directory.join(name));
    }
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    fn parent() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn they_are_readable_by_all_and_gone_at_the_end() {
        let parent = parent();
        let place = Place::make_in(parent.path()).unwrap();
        assert_eq!(entries(&place.directory), [GRACEFUL_NAME, NAME]);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&place.directory), TO_PASS);
        assert_eq!(mode(&place.directory.join(NAME)), TO_READ);
        assert_eq!(fs::read_to_string(place.directory.join(NAME)).unwrap(), SOURCE);
        drop(place);
        assert!(entries(parent.path()).is_empty());
    }

    #[test]
    fn what_a_killed_primary_left_is_removed_and_what_lives_is_not() {
        let parent = parent();
        let alive = Place::make_in(parent.path()).unwrap();
        let dead = parent.path().join("ganger-1-0");
        let others = ["ganger-1-0x", "ganger-x-1", "ganger-2-0"].map(|name| parent.path().join(name));
        others.iter().chain([&dead]).for_each(|path| fs::create_dir(path).unwrap());
        fs::write(dead.join(NAME), "").unwrap();
        fs::write(others[2].join("precious"), "").unwrap();
        let second = Place::make_in(parent.path()).unwrap();
        assert!(alive.is_intact() && second.is_intact() && alive.directory != second.directory);
        assert!(!dead.exists() && others.iter().all(|other| other.exists()));
    }

    #[test]
    fn a_place_where_others_could_swap_them_is_passed_over() {
        let (open, closed) = (parent(), parent());
        fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
        let missing = closed.path().join("missing");
        let place = Place::find(&[open.path().into(), missing.clone(), closed.path().into()]).unwrap();
        assert_eq!(place.directory.parent(), Some(&*closed.path().canonicalize().unwrap()));
        assert!(entries(open.path()).is_empty());
        fs::set_permissions(open.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(Place::make_in(open.path()).is_ok());
        assert_eq!(Place::find(&[missing]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn they_are_made_again_if_somebody_removed_them() {
        let mut hints = Hints::default();
        let options = hints.options(true).unwrap();
        let path =
            |option: &OsString| PathBuf::from(option.to_str().unwrap().strip_prefix("--require=").unwrap());
        let [first, second] = [&options[0], &options[1]].map(path);
        assert!(first.exists() && second.exists());
        assert_eq!(hints.options(false).unwrap(), options[..1]);
        fs::remove_file(&first).unwrap();
        assert!(path(&hints.options(false).unwrap()[0]).exists());
    }

    #[test]
    fn some_options_go_without() {
        let taken = |line: &str| {
            let args: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            are_taken_with(&args)
        };
        assert!(
            taken("app.js") && taken("--max-old-space-size=99 app.js inspect") && taken("--permission x.js")
        );
        assert!(taken("app.js --experimental-permission") && taken(""));
        assert!(!taken("inspect app.js") && !taken("--inspect --experimental-permission x.js"));
        assert!(!taken("--experimental-policy=p.json x.js"));
    }
}
