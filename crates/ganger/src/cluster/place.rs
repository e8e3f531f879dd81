//! The primary's own directory, for what workers find by its path: the hints' files, on disk for as long as workers may be
//! started or may start threads of their own, which read them again; and the sockets on which workers say how they are.
//!
//! Only this user (and root) can write to it, and it lies in one where nobody else can rename it: the directory for temporary
//! files, or another one that can be written even where a container's root cannot. It is locked, which keeps cleaners of old
//! files away, and shows the next primary what the last one had no time to remove.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ganger_proto::node::hints::{GRACEFUL_NAME, GRACEFUL_SOURCE, NAME, SOURCE};
use rustix::fs::{FlockOperation, OFlags, flock};

use super::options;

/// Where the directory may be made, the best first; before them comes what is meant for temporary files.
const PLACES: [&str; 3] = ["/dev/shm", "/var/tmp", "/run"];
/// What its name begins with; the process's number follows, and a running one.
const PREFIX: &str = "ganger-";
/// A worker may be another user.
const TO_PASS: u32 = 0o711;
const TO_READ: u32 = 0o444;
/// So many names are tried.
const NAMES: u32 = 64;
/// The longest path that a directory may have for a socket in it to have an address (`sun_path`), with a name of 16 bytes.
const LONGEST: usize = 107 - 17;

/// The directory, made when something is first to lie in it.
#[derive(Debug, Default)]
pub(super) struct Place(Option<Directory>);

impl Place {
    /// The directory's path; a name in it has up to 16 bytes.
    ///
    /// # Errors
    /// If there is nowhere that one can be made.
    pub(super) fn path(&mut self) -> io::Result<&Path> {
        // Whoever removed it, or what is in it, has not done it for good.
        let is_there = self.0.as_mut().map(Directory::mend).transpose()?.unwrap_or_default();
        let directory = match self.0.take().filter(|_| is_there) {
            Some(directory) => directory,
            None => Directory::find(&places())?,
        };
        Ok(&self.0.insert(directory).path)
    }

    /// The options that put the hints before a program of Node's.
    ///
    /// # Errors
    /// As [`Place::path`].
    pub(super) fn hints(&mut self, graceful: bool) -> io::Result<Vec<OsString>> {
        let directory = self.path()?;
        let mut names = vec![NAME];
        names.extend(graceful.then_some(GRACEFUL_NAME));
        let option = |name| {
            let mut option = OsString::from("--require=");
            option.push(directory.join(name));
            option
        };
        Ok(names.into_iter().map(option).collect())
    }
}

/// Whether a Node with these arguments can have the hints: what it is to run is not a debugger's business, and it can
/// read files that it was not told of.
pub(super) fn takes_hints_with(args: &[OsString]) -> bool {
    let is_strict = |option: &str| REFUSED_WITH.iter().any(|strict| option.starts_with(strict));
    let is_debugger = args.first().is_some_and(|first| first == "inspect");
    !is_debugger && !options::own(args).any(|option| is_strict(option.name))
}

/// Node's options that restrict what may be read: 20's permissions (from 22 on `--require` is allowed what it names),
/// and policies.
const REFUSED_WITH: [&str; 3] = ["--experimental-permission", "--experimental-policy", "--policy-integrity"];

fn places() -> Vec<PathBuf> {
    std::iter::once(env::temp_dir()).chain(PLACES.map(PathBuf::from)).collect()
}

/// A directory with the hints' files in it, locked.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// The lock is on it.
    lock: File,
    /// The files, in the order of their names.
    files: [Identity; 2],
}

/// Device and number.
type Identity = (u64, u64);

const FILES: [(&str, &str); 2] = [(NAME, SOURCE), (GRACEFUL_NAME, GRACEFUL_SOURCE)];

impl Directory {
    /// In the first of these that takes it.
    fn find(places: &[PathBuf]) -> io::Result<Self> {
        let mut first = None;
        for place in places {
            match Self::make_in(place) {
                Ok(directory) => return Ok(directory),
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
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            if path.as_os_str().len() > LONGEST {
                return Err(rustix::io::Errno::NAMETOOLONG.into());
            }
            match DirBuilder::new().mode(TO_PASS).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => match Self::fill(&path) {
                    Err(error) => {
                        remove(&path);
                        return Err(error);
                    }
                    // Somebody who swept was faster.
                    Ok(None) => {}
                    Ok(Some(directory)) => return Ok(directory),
                },
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn fill(path: &Path) -> io::Result<Option<Self>> {
        let Some(lock) = lock(path)? else { return Ok(None) };
        // The umask has had its say.
        lock.set_permissions(Permissions::from_mode(TO_PASS))?;
        let [hints, graceful] = FILES;
        let files = [write(path, hints)?, write(path, graceful)?];
        Ok(Some(Self { path: path.into(), lock, files }))
    }

    /// Writes again what somebody has removed; false if that is the whole directory.
    fn mend(&mut self) -> io::Result<bool> {
        if !is_at(&self.lock, &self.path)? {
            return Ok(false);
        }
        for (file, known) in FILES.into_iter().zip(&mut self.files) {
            let path = self.path.join(file.0);
            let found = fs::symlink_metadata(&path);
            if found.is_ok_and(|found| identity(&found) == *known) {
                continue;
            }
            // Whatever is there in its place.
            let _ = fs::remove_file(&path);
            *known = write(&self.path, file)?;
        }
        Ok(true)
    }
}

fn write(directory: &Path, (name, text): (&str, &str)) -> io::Result<Identity> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(TO_READ).open(directory.join(name))?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(TO_READ))?;
    Ok(identity(&file.metadata()?))
}

fn identity(known: &fs::Metadata) -> Identity {
    (known.dev(), known.ino())
}

impl Drop for Directory {
    fn drop(&mut self) {
        remove(&self.path);
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
    Ok(is_at(&file, directory)?.then_some(file))
}

/// Whether what is open is at this path.
fn is_at(open: &File, path: &Path) -> io::Result<bool> {
    let (known, found) = (open.metadata()?, fs::symlink_metadata(path));
    Ok(found.is_ok_and(|found| identity(&found) == identity(&known)))
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

/// Removes a directory, if nothing is in it but the files and sockets.
fn remove(directory: &Path) {
    let is_ours = |entry: &fs::DirEntry| {
        FILES.iter().any(|(name, _)| entry.file_name() == *name)
            || entry.file_type().is_ok_and(|kind| kind.is_socket())
    };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(is_ours) {
        // Somebody else may be at it.
        let _ = fs::remove_file(entry.path());
    }
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

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
        let directory = Directory::make_in(parent.path()).unwrap();
        assert_eq!(entries(&directory.path), [GRACEFUL_NAME, NAME]);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&directory.path), TO_PASS);
        assert_eq!(mode(&directory.path.join(NAME)), TO_READ);
        assert_eq!(fs::read_to_string(directory.path.join(NAME)).unwrap(), SOURCE);
        drop(directory);
        assert!(entries(parent.path()).is_empty());
    }

    #[test]
    fn what_a_killed_primary_left_is_removed_and_what_lives_is_not() {
        let parent = parent();
        let mut alive = Directory::make_in(parent.path()).unwrap();
        let dead = parent.path().join("ganger-1-0");
        let others = ["ganger-1-0x", "ganger-x-1", "ganger-2-0"].map(|name| parent.path().join(name));
        others.iter().chain([&dead]).for_each(|path| fs::create_dir(path).unwrap());
        fs::write(dead.join(NAME), "").unwrap();
        drop(UnixDatagram::bind(dead.join("worker-1")).unwrap());
        fs::write(others[2].join("precious"), "").unwrap();
        let mut second = Directory::make_in(parent.path()).unwrap();
        assert!(alive.mend().unwrap() && second.mend().unwrap() && alive.path != second.path);
        assert!(!dead.exists() && others.iter().all(|other| other.exists()));
    }

    #[test]
    fn a_place_where_others_could_swap_them_is_passed_over() {
        let (open, closed) = (parent(), parent());
        fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
        let missing = closed.path().join("missing");
        let deep = closed.path().join("d".repeat(LONGEST));
        fs::create_dir(&deep).unwrap();
        let places = [open.path().into(), missing.clone(), deep.clone(), closed.path().into()];
        let directory = Directory::find(&places).unwrap();
        assert_eq!(directory.path.parent(), Some(&*closed.path().canonicalize().unwrap()));
        assert!(entries(&deep).is_empty());
        assert!(entries(open.path()).is_empty());
        fs::set_permissions(open.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(Directory::make_in(open.path()).is_ok());
        assert_eq!(Directory::find(&[missing]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn they_are_made_again_if_somebody_removed_them() {
        let mut place = Place::default();
        let options = place.hints(true).unwrap();
        let path =
            |option: &OsString| PathBuf::from(option.to_str().unwrap().strip_prefix("--require=").unwrap());
        let [first, second] = [&options[0], &options[1]].map(path);
        assert!(first.exists() && second.exists());
        assert_eq!(place.hints(false).unwrap(), options[..1]);
        let socket = first.with_file_name("worker-1");
        let _socket = UnixDatagram::bind(&socket).unwrap();
        fs::remove_file(&first).unwrap();
        assert_eq!(place.hints(true).unwrap(), options);
        assert!(first.exists() && socket.exists(), "what else is in it stays");
        fs::remove_dir_all(first.parent().unwrap()).unwrap();
        assert!(path(&place.hints(false).unwrap()[0]).exists());
    }

    #[test]
    fn some_options_go_without() {
        let taken = |line: &str| {
            let args: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            takes_hints_with(&args)
        };
        assert!(
            taken("app.js") && taken("--max-old-space-size=99 app.js inspect") && taken("--permission x.js")
        );
        assert!(taken("app.js --experimental-permission") && taken(""));
        assert!(!taken("inspect app.js") && !taken("--inspect --experimental-permission x.js"));
        assert!(!taken("--experimental-policy=p.json x.js") && !taken("-r y --experimental-permission x.js"));
    }
}
