//! The sockets of the admin interface, bound before anything else runs, so that an address that cannot be used ends start-up.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::Token;

/// A path of these bytes fits an address with room for the name it is bound under first.
const SHORT: usize = 80;

/// Where to listen.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// A Unix socket.
    pub socket: Option<PathBuf>,
    /// TCP.
    pub address: Option<SocketAddr>,
    /// For TCP.
    pub token: Option<Token>,
}

/// Why it cannot be listened there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another relay is alive behind the socket.
    #[error(
        "configuration key `admin_socket` is \"{path}\", expected a path of its own: another relay answers there"
    )]
    Alive {
        /// The path.
        path: String,
    },
    /// What is there is no socket.
    #[error("configuration key `admin_socket` is \"{path}\", expected a free path: there is something else")]
    Taken {
        /// The path.
        path: String,
    },
    /// The system says no.
    #[error("configuration key `{key}` is \"{at}\", expected {expected}: {error}")]
    System {
        /// The key.
        key: &'static str,
        /// Its value.
        at: String,
        /// What was expected.
        expected: &'static str,
        /// Why.
        error: io::Error,
    },
    /// TCP from elsewhere without a token.
    #[error(
        "configuration key `admin` is \"{0}\", expected a loopback address, or a token by `admin_token_file`"
    )]
    NoToken(SocketAddr),
}

/// Sockets that listen.
#[derive(Debug)]
pub struct Listeners {
    pub(super) unix: Option<UnixSocket>,
    pub(super) tcp: Option<TcpListener>,
    pub(super) token: Option<Token>,
}

impl Listeners {
    /// Binds them.
    ///
    /// # Errors
    /// An address cannot be used.
    pub fn bind(listen: &Listen) -> Result<Listeners, ListenError> {
        let tcp = listen.address.map(|at| tcp(at, listen.token.is_some())).transpose()?;
        let unix = listen.socket.as_deref().map(UnixSocket::bind).transpose()?;
        Ok(Listeners { unix, tcp, token: listen.token.clone() })
    }

    /// Where TCP is listened, its port resolved.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }
}

fn tcp(at: SocketAddr, has_token: bool) -> Result<TcpListener, ListenError> {
    if !at.ip().to_canonical().is_loopback() && !has_token {
        return Err(ListenError::NoToken(at));
    }
    let bind = || {
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| ListenError::System {
        key: "admin",
        at: at.to_string(),
        expected: "a free address of this host",
        error,
    })
}

/// A Unix socket, whose file goes with it.
#[derive(Debug)]
pub(super) struct UnixSocket {
    pub(super) listener: Option<UnixListener>,
    path: PathBuf,
    /// Of our file, so that a successor's is not removed.
    inode: u64,
}

impl UnixSocket {
    fn bind(path: &Path) -> Result<UnixSocket, ListenError> {
        make_room(path)?;
        let bind = || {
            let (_folder, way) = short_way(path)?;
            // Bound under another name: when it gets its own, nobody but us may open it.
            let early = way.with_extension(format!("{}.new", std::process::id()));
            let _ = fs::remove_file(&early);
            let listener = UnixListener::bind(&early)?;
            fs::set_permissions(&early, fs::Permissions::from_mode(0o600))?;
            fs::rename(&early, path)?;
            listener.set_nonblocking(true)?;
            let inode = fs::symlink_metadata(path)?.ino();
            Ok(UnixSocket { listener: Some(listener), path: path.to_path_buf(), inode })
        };
        bind().map_err(|error| system(path, error))
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            // What is left is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A way to a socket that is short enough for its address (108 bytes, unix(7)), however deep its folder is. It holds as long as the
/// file, which is the folder.
///
/// # Errors
/// There is no such folder.
pub fn short_way(path: &Path) -> io::Result<(Option<fs::File>, PathBuf)> {
    let (folder, name) = (path.parent(), path.file_name());
    let (Some(folder), Some(name), true) = (folder, name, path.as_os_str().len() > SHORT) else {
        return Ok((None, path.to_path_buf()));
    };
    let folder = fs::File::open(folder)?;
    let way = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((Some(folder), way))
}

/// A socket nobody listens on is what a relay that was killed has left.
fn make_room(path: &Path) -> Result<(), ListenError> {
    let name = || path.display().to_string();
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(ListenError::Taken { path: name() }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(path, error)),
    }
    // Without waiting: the queue of a relay that lives may be full.
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        let (_folder, way) = short_way(path)?;
        socket.connect(&SockAddr::unix(way)?)
    };
    match connect() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| system(path, error))
        }
        Ok(_) => Err(ListenError::Alive { path: name() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ListenError::Alive { path: name() }),
        Err(error) => Err(system(path, error)),
    }
}

fn system(path: &Path, error: io::Error) -> ListenError {
    let expected = "a name of at most 60 bytes in a folder that can be written";
    ListenError::System { key: "admin_socket", at: path.display().to_string(), expected, error }
}
