//! A certificate for TLS listeners of benchmarks and tests: self-signed by rcgen, ECDSA on P-256, made anew for each run.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::Outcome;

/// The name it is for.
pub const NAME: &str = "localhost";

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
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_string()])?;
        fs::create_dir_all(folder)?;
        let made = Certificate { chain: folder.join("chain.pem"), key: folder.join("key.pem") };
        fs::write(&made.chain, cert.pem())?;
        fs::write(&made.key, signing_key.serialize_pem())?;
        Ok(made)
    }
}
