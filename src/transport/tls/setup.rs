//! What a server is made from: certificates, client authentication, ticket secret. Read, checked, and refused in words.

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::digest;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use zeroize::Zeroizing;

/// A file, or its contents.
#[derive(Clone)]
pub enum Pem {
    /// To be read from here, anew by each reload.
    File(PathBuf),
    /// The contents themselves, for demos and tests.
    Text(String),
}

/// A certificate for the names that it says it is for.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub chain: Pem,
    /// Its private key: PKCS#8, SEC1 or PKCS#1.
    pub key: Pem,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Debug, Default)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked; one that shows a certificate must have it from this CA.
    Optional(Pem),
    /// Only those with a certificate of this CA get in.
    Required(Pem),
}

/// What a server is made from.
///
/// 0-RTT is not among it and stays off. Early data can be replayed by whoever sees it, so a transaction could be submitted twice
/// to different relays; and it would win nothing, because a client says nothing before it has our `version`.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The first one is for clients that name no server, or one that none is for.
    pub certificates: Vec<Certificate>,
    /// Client authentication.
    pub client_auth: ClientAuth,
    /// The secret that ticket keys follow from, for fleets: 32 bytes or more, as they are, or in hexadecimal. Without it, random.
    pub ticket_secret: Option<Pem>,
}

/// Why a server cannot be made.
#[derive(Debug, Error)]
pub enum SetupError {
    /// There is no certificate.
    #[error("certificates: none given; expected at least one certificate chain with its key")]
    NoCertificate,
    /// A file cannot be read.
    #[error("{what} {from}: {error}; expected a file that the relay may read")]
    Unreadable {
        /// Which setting.
        what: &'static str,
        /// Which file.
        from: String,
        /// Why.
        error: std::io::Error,
    },
    /// A file's contents are something else.
    #[error("{what} {from}: {found}; expected {expected}")]
    Contents {
        /// Which setting.
        what: &'static str,
        /// Which file.
        from: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// The key does not fit.
    #[error(
        "key {key}: is not the key of certificate {chain}; expected the private key that the certificate was made for"
    )]
    KeyMismatch {
        /// The key's file.
        key: String,
        /// The certificate's file.
        chain: String,
    },
    /// rustls or the random number generator does not work with what was given.
    #[error("TLS: {0}; this is not expected on any host, please report it")]
    Library(String),
}

impl Pem {
    /// How messages call it.
    pub fn name(&self) -> String {
        match self {
            Pem::File(path) => path.display().to_string(),
            Pem::Text(_) => "(given as text)".into(),
        }
    }

    fn read(&self, what: &'static str) -> Result<Zeroizing<Vec<u8>>, SetupError> {
        match self {
            Pem::Text(text) => Ok(Zeroizing::new(text.clone().into_bytes())),
            Pem::File(path) => fs::read(path).map(Zeroizing::new).map_err(|error| SetupError::Unreadable {
                what,
                from: self.name(),
                error,
            }),
        }
    }

    fn wrong(&self, what: &'static str, found: impl ToString, expected: &'static str) -> SetupError {
        SetupError::Contents { what, from: self.name(), found: found.to_string(), expected }
    }

    /// One certificate or more.
    pub(super) fn certificates(
        &self,
        what: &'static str,
    ) -> Result<Vec<CertificateDer<'static>>, SetupError> {
        const EXPECTED: &str = "PEM with at least one section CERTIFICATE";
        let text = self.read(what)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match found {
            Ok(found) if found.is_empty() => Err(self.wrong(what, "no certificate in it", EXPECTED)),
            Ok(found) => Ok(found),
            Err(error) => Err(self.wrong(what, error, EXPECTED)),
        }
    }

    /// The first private key.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, SetupError> {
        const EXPECTED: &str =
            "PEM with a section PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, not encrypted";
        let text = self.read("tls_certificates key")?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => {
                self.wrong("tls_certificates key", "no private key in it", EXPECTED)
            }
            error => self.wrong("tls_certificates key", error, EXPECTED),
        })
    }

    /// The certificates of CAs, and their hash, whatever their order.
    pub(super) fn roots(&self, what: &'static str) -> Result<(RootCertStore, Vec<u8>), SetupError> {
        let mut certificates = self.certificates(what)?;
        certificates.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        let mut roots = RootCertStore::empty();
        let mut context = digest::Context::new(&digest::SHA256);
        for certificate in certificates {
            context.update(digest::digest(&digest::SHA256, &certificate).as_ref());
            roots
                .add(certificate)
                .map_err(|error| self.wrong(what, error, "certificates of CAs (X.509 v3)"))?;
        }
        Ok((roots, context.finish().as_ref().to_vec()))
    }

    /// A secret of 32 bytes or more.
    pub(super) fn secret(&self) -> Result<Zeroizing<Vec<u8>>, SetupError> {
        const EXPECTED: &str =
            "32 random bytes or more, as they are or in hexadecimal, as from `openssl rand -hex 32`";
        let raw = self.read("tls_ticket_key")?;
        let secret = from_hex(&raw).unwrap_or(raw);
        if secret.len() < 32 {
            return Err(self.wrong("tls_ticket_key", format!("{} bytes", secret.len()), EXPECTED));
        }
        Ok(secret)
    }
}

/// Hexadecimal, with white space around it or between.
fn from_hex(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    let mut high = None;
    for byte in text.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        let digit = char::from(*byte).to_digit(16)? as u8;
        match high.take() {
            None => high = Some(digit << 4),
            Some(upper) => out.push(upper | digit),
        }
    }
    (high.is_none() && !out.is_empty()).then_some(out)
}

/// Never the contents: they may be a key.
impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}
