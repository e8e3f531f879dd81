//! Unix-domain sockets that are listened on, and their files.
//!
//! A socket is bound to a temporary name beside its path, made ready, and renamed. So whoever finds the file finds
//! somebody who listens, with the permissions that are meant; and the file of a dead socket is replaced in one step.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use super::bind::{listen, open};

/// Permissions added to a Unix socket's file, beyond what the umask left (libuv's `uv_pipe_chmod`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UnixMode {
    /// Everybody may read: 0444.
    pub readable_all: bool,
    /// Everybody may write, which is what connecting needs: 0222.
    pub writable_all: bool,
}

/// The file of a socket of ours. Dropped, it is removed, unless somebody else's has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device and inode: which file it is, whatever its name.
type Identity = (u64, u64);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Somebody may have removed it since; then there is nothing to do.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens on a path, with a socket that is non-blocking and close-on-exec. The second result is its file.
///
/// The file of a socket that nobody listens on any more is replaced. A path that begins with NUL is a name in the
/// abstract namespace: it has no file, and `mode` means nothing. A path that is longer than the 107 bytes of an
/// address is taken from the working directory if that is shorter, as in Node's `lib/internal/cluster/primary.js`.
/// The kernel goes on telling the temporary name (`getsockname`, `ss -x`).
///
/// # Errors
/// `EADDRINUSE` if somebody listens there, or if the file is no socket; `ENAMETOOLONG`; `ENOENT` for a directory that
/// does not exist; `EACCES`, `EPERM`, `EROFS`.
pub fn listen_unix(path: &Path, mode: UnixMode, backlog: i32) -> io::Result<(OwnedFd, Option<SocketFile>)> {
    if let [0, name @ ..] = path.as_os_str().as_bytes() {
        let socket = open(AddressFamily::UNIX, SocketType::STREAM)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
        listen(&socket, backlog)?;
        return Ok((socket, None));
    }
    // What nobody could connect to is not listened on.
    let address = SocketAddrUnix::new(&*shortened(path))?;
    let abandoned = abandoned(path, &address)?;
    let (socket, mut file) = bind_beside(path)?;
    let added = if mode.readable_all { 0o444 } else { 0 } | if mode.writable_all { 0o222 } else { 0 };
    if added != 0 {
        let mut permissions = std::fs::metadata(&file.path)?.permissions();
        permissions.set_mode(permissions.mode() | added);
        std::fs::set_permissions(&file.path, permissions)?;
    }
    listen(&socket, backlog)?;
    file.rename(path, abandoned)?;
    Ok((socket, Some(file)))
}

/// A socket at a path where there is nothing yet, on which datagrams are received: non-blocking and close-on-exec. Only `owner`, or
/// else this user, and root can send any. The second result is its file.
///
/// # Errors
/// `EADDRINUSE`, `ENAMETOOLONG`, `ENOENT`, `EACCES`, `EROFS`; `EPERM` for another owner, without the right to give files away.
pub fn receive_at(path: &Path, owner: Option<u32>) -> io::Result<(OwnedFd, SocketFile)> {
    let socket = open(AddressFamily::UNIX, SocketType::DGRAM)?;
    // Its file is made with these, so that it is nobody else's for a moment.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile { path: path.into(), identity: identity(path)? };
    if let Some(owner) = owner {
        std::os::unix::fs::chown(path, Some(owner), None)?;
    }
    Ok((socket, file))
}

/// The file that is there and may be replaced, if any: a socket that refuses connections. A regular file refuses them
/// just as well.
fn abandoned(path: &Path, address: &SocketAddrUnix) -> io::Result<Option<Identity>> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => metadata,
        Ok(_) => return Err(Errno::ADDRINUSE.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let probe = open(AddressFamily::UNIX, SocketType::STREAM)?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => Ok(Some((metadata.dev(), metadata.ino()))),
        // Somebody else may have removed it since.
        Err(Errno::NOENT) => Ok(None),
        // Connected, no room in its backlog, another type of socket, no permission: somebody's, in any case.
        _ => Err(Errno::ADDRINUSE.into()),
    }
}

/// A socket that is bound in the same directory, under a name that nobody has.
fn bind_beside(path: &Path) -> io::Result<(OwnedFd, SocketFile)> {
    let socket = open(AddressFamily::UNIX, SocketType::STREAM)?;
    let name = path.file_name().ok_or(Errno::INVAL)?;
    for attempt in 0..ATTEMPTS {
        let suffix = format!(".{}-{attempt}", std::process::id());
        let mut beside = name.to_owned();
        beside.push(&suffix);
        let path = match path.with_file_name(beside) {
            path if shortened(&path).as_os_str().len() <= SUN_PATH_MAX => path,
            _ => path.with_file_name(suffix),
        };
        match bind(&socket, &path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => {
                bound?;
                let identity = identity(&path)?;
                return Ok((socket, SocketFile { path, identity }));
            }
        }
    }
    Err(Errno::ADDRINUSE.into())
}

/// Binds to a path of any length.
fn bind(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    let short = shortened(path);
    if short.as_os_str().len() <= SUN_PATH_MAX {
        return Ok(rustix::net::bind(socket, &SocketAddrUnix::new(&*short)?)?);
    }
    let (directory, name) = path.parent().zip(path.file_name()).ok_or(Errno::INVAL)?;
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let through = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok(rustix::net::bind(socket, &SocketAddrUnix::new(&*through)?)?)
}

impl SocketFile {
    /// Gives it the name `path`, where there is nothing, or the abandoned file and no other.
    fn rename(&mut self, path: &Path, abandoned: Option<Identity>) -> io::Result<()> {
        let exchange = || rustix::fs::renameat_with(CWD, &self.path, CWD, path, RenameFlags::EXCHANGE);
        let renamed = match abandoned {
            Some(_) => exchange(),
            None => rustix::fs::renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE),
        };
        match renamed {
            Ok(()) => {}
            // Somebody else was quicker: to remove it, or to take the place.
            Err(Errno::NOENT) if abandoned.is_some() => return self.rename(path, None),
            Err(Errno::EXIST) => return Err(Errno::ADDRINUSE.into()),
            // The file system has no such renaming.
            Err(Errno::INVAL | Errno::NOSYS) => {
                std::fs::rename(&self.path, path)?;
                path.clone_into(&mut self.path);
                return Ok(());
            }
            Err(errno) => return Err(errno.into()),
        }
        let beside = match abandoned {
            // What we have put aside is somebody's who came meanwhile: it belongs back.
            Some(abandoned) if identity(&self.path)? != abandoned => {
                exchange()?;
                return Err(Errno::ADDRINUSE.into());
            }
            Some(_) => Some(self.path.clone()),
            None => None,
        };
        path.clone_into(&mut self.path);
        if let Some(beside) = beside {
            std::fs::remove_file(beside)?;
        }
        Ok(())
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The path from the working directory, where the path itself is too long for an address.
fn shortened(path: &Path) -> PathBuf {
    if path.as_os_str().len() <= SUN_PATH_MAX || path.is_relative() {
        return path.to_owned();
    }
    match std::env::current_dir().map(|cwd| relative(&cwd, path)) {
        Ok(relative) if relative.as_os_str().len() < path.as_os_str().len() => relative,
        _ => path.to_owned(),
    }
}

/// `to` seen from `from`; both are absolute.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

/// The bytes of `sun_path` without the closing NUL that other programs expect.
const SUN_PATH_MAX: usize = 107;

/// So many names are tried: they are taken only by what a process of our number left behind.
const ATTEMPTS: u32 = 100;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{ErrorKind, Read};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;
    use crate::sys::fixture;
    use crate::sys::socket::accept;

    fn listen_at(path: &Path) -> io::Result<(OwnedFd, Option<SocketFile>)> {
        listen_unix(path, UnixMode::default(), 8)
    }

    fn in_use(path: &Path) {
        assert_eq!(listen_at(path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert!(path.exists());
        assert_eq!(names(path.parent().unwrap()), [path.file_name().unwrap()], "nothing is left behind");
    }

    fn names(directory: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_socket_file_serves_and_is_not_taken_from_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (socket, file) = listen_at(&path).unwrap();
        in_use(&path);
        let _probe = accept(socket.as_fd()).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        accept(socket.as_fd()).unwrap();
        drop(file);
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn whoever_lives_keeps_the_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("full");
        let _full = listen_unix(&path, UnixMode::default(), 0).unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        in_use(&path);

        let other = tempfile::tempdir().unwrap();
        let path = other.path().join("datagrams");
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        in_use(&path);
    }

    #[test]
    fn an_abandoned_socket_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _socket = listen_at(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(names(directory.path()), ["socket"]);
    }

    /// What happens between looking and renaming.
    #[test]
    fn who_is_quicker_keeps_the_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let abandoned = Some(identity(&path).unwrap());

        // Somebody else has replaced it.
        let _quicker = listen_at(&path).unwrap();
        let (_socket, mut file) = bind_beside(&path).unwrap();
        assert_eq!(file.rename(&path, abandoned).unwrap_err().kind(), ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        // Or come to where nothing was.
        assert_eq!(file.rename(&path, None).unwrap_err().kind(), ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        // Or only removed it.
        fs::remove_file(&path).unwrap();
        file.rename(&path, abandoned).unwrap();
        assert_eq!(names(directory.path()), ["socket"]);
    }

    #[test]
    fn a_file_is_removed_by_its_own_socket_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (_socket, file) = listen_at(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious");
        fs::write(&path, "data").unwrap();
        in_use(&path);
        assert_eq!(fs::read(&path).unwrap(), b"data");

        let other = tempfile::tempdir().unwrap();
        let link = other.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        in_use(&link);
    }

    #[test]
    fn a_missing_directory_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let error = listen_at(&directory.path().join("no/socket")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(listen_at(Path::new("/")).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn modes_are_added_to_what_the_umask_left() {
        fixture::own_process(concat!(module_path!(), "::modes_are_added_to_what_the_umask_left"), || {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            let directory = tempfile::tempdir().unwrap();
            for (readable_all, writable_all, expected) in
                [(false, false, 0o700), (true, false, 0o744), (false, true, 0o722), (true, true, 0o766)]
            {
                let path = directory.path().join(format!("{expected:o}"));
                let _socket = listen_unix(&path, UnixMode { readable_all, writable_all }, 1).unwrap();
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, expected);
            }
        });
    }

    #[test]
    fn a_socket_for_datagrams_is_its_owners() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (socket, file) = receive_at(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sender = UnixDatagram::unbound().unwrap();
        let mut buffer = [0; 8];
        let mut receive = || super::super::receive_datagram(socket.as_fd(), &mut buffer);
        assert_eq!(receive().unwrap_err().kind(), ErrorKind::WouldBlock);
        for datagram in ["READY=1", "", "too long for it", "8 bytes."] {
            sender.send_to(datagram.as_bytes(), &path).unwrap();
        }
        assert_eq!([receive().unwrap(), receive().unwrap()], [Some(7), Some(0)]);
        assert_eq!([receive().unwrap(), receive().unwrap()], [None, Some(8)]);
        assert_eq!(receive_at(&path, None).unwrap_err().kind(), ErrorKind::AddrInUse);
        // Whoever sends a descriptor waits for its end, as `systemd-notify` does: then all has been read.
        let (mut reader, writer) = std::io::pipe().unwrap();
        sender.connect(&path).unwrap();
        super::super::send(sender.as_fd(), b"BARRIER", Some(writer.as_fd())).unwrap();
        drop(writer);
        assert_eq!(receive().unwrap(), Some(7));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        drop(file);
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn a_name_that_begins_with_nul_is_abstract() {
        let directory = tempfile::tempdir().unwrap();
        let name = format!("\0ganger {}", directory.path().display());
        let mode = UnixMode { readable_all: true, writable_all: true };
        let (_socket, file) = listen_unix(Path::new(&name), mode, 8).unwrap();
        assert!(file.is_none());
        let client = open(AddressFamily::UNIX, SocketType::STREAM).unwrap();
        let address = SocketAddrUnix::new_abstract_name(&name.as_bytes()[1..]).unwrap();
        rustix::net::connect(&client, &address).unwrap();
        assert_eq!(listen_at(Path::new(&name)).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    /// The longest path has no room for a temporary name beside it.
    #[test]
    fn a_path_of_every_length_is_bound() {
        let directory = tempfile::tempdir().unwrap();
        let room = SUN_PATH_MAX - directory.path().as_os_str().len() - 1;
        for length in [1, 8, room - 8, room - 1, room] {
            let path = directory.path().join("s".repeat(length));
            let _socket = listen_at(&path).unwrap();
            UnixStream::connect(&path).unwrap();
            assert_eq!(names(directory.path()).len(), 1);
        }
        let error = listen_at(&directory.path().join("s".repeat(room + 2))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    }

    #[test]
    fn a_long_path_is_taken_from_the_working_directory() {
        fixture::own_process(
            concat!(module_path!(), "::a_long_path_is_taken_from_the_working_directory"),
            || {
                let directory = tempfile::tempdir().unwrap();
                let deep = directory.path().canonicalize().unwrap().join("d".repeat(120));
                fs::create_dir_all(deep.join("beside")).unwrap();
                let path = deep.join("socket");
                let error = listen_at(&path).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));

                std::env::set_current_dir(deep.join("beside")).unwrap();
                let (_socket, file) = listen_at(&path).unwrap();
                UnixStream::connect("../socket").unwrap();
                // Wherever we are then.
                std::env::set_current_dir("/").unwrap();
                drop(file);
                assert!(!path.exists());
            },
        );
    }

    #[test]
    fn paths_seen_from_elsewhere() {
        let check = |from: &str, to: &str, expected: &str| {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(expected));
        };
        check("/a/b", "/a/b/c", "c");
        check("/a/b", "/a/c", "../c");
        check("/a/b", "/c", "../../c");
        check("/", "/a/b", "a/b");
        check("/ab", "/a", "../a");
    }
}
