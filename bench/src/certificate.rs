//! A certificate for TLS listeners of benchmarks and tests: self-signed by rcgen, ECDSA on P-256, made anew for each run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use breakwater::transport::tls::{self, Pem, Setup};
use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::Outcome;

/// The name it is for.
pub const NAME: &str = "localhost";

/// Certificate and key, PEM. rcgen's default key is ECDSA on P-256.
pub(crate) fn self_signed() -> Outcome<(String, String)> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_string()])?;
    Ok((cert.pem(), signing_key.serialize_pem()))
}

/// A certificate and its key in files of a folder.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, PEM: what a listener shows and what its clients trust.
    pub chain: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes one; the folder is made when it is not there.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn make(folder: &Path) -> Outcome<Certificate> {
        let (chain, key) = self_signed()?;
        fs::create_dir_all(folder)?;
        let made = Certificate::in_folder(folder);
        fs::write(&made.chain, chain)?;
        fs::write(&made.key, key)?;
        Ok(made)
    }

    /// The one that was made in a folder.
    pub(crate) fn in_folder(folder: &Path) -> Certificate {
        Certificate { chain: folder.join("chain.pem"), key: folder.join("key.pem") }
    }

    /// A server that shows it.
    ///
    /// # Errors
    /// The files cannot be read any more.
    pub fn server(&self) -> Outcome<Arc<tls::Server>> {
        let shown =
            tls::Certificate { chain: Pem::File(self.chain.clone()), key: Pem::File(self.key.clone()) };
        Ok(tls::Server::load(&Setup { certificates: vec![shown], ..Setup::default() }, None)?)
    }
}

/// A certificate in a folder of its own under the temporary ones, which goes with its handle.
#[derive(Debug)]
pub(crate) struct Passing {
    folder: PathBuf,
    pub(crate) certificate: Certificate,
}

impl Passing {
    /// Makes one; a process has one of each name.
    pub(crate) fn make(name: &str) -> Outcome<Passing> {
        let folder = std::env::temp_dir().join(format!("breakwater-{name}-{}", std::process::id()));
        Ok(Passing { certificate: Certificate::make(&folder)?, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
