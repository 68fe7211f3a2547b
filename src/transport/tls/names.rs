//! Which certificate for which server name (SNI): the DNS names that the certificates themselves are for.
//!
//! A wildcard stands for exactly one label (`*.example.org`: `a.example.org`, not `a.b.example.org`), as in RFC 6125. A name that
//! no certificate is for gets the first one: the client decides whether it likes it.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::setup::{Certificate, SetupError};

/// Certificates with their keys.
#[derive(Debug)]
pub struct Names {
    keys: Vec<Arc<CertifiedKey>>,
    /// Lower case, and `*.` in front of wildcards; to the place in `keys`.
    names: Arc<HashMap<String, usize>>,
    /// What the keys were made from, for one's own copy of them.
    sources: Arc<Vec<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
}

impl Names {
    /// Reads and checks the certificates.
    pub fn load(certificates: &[Certificate], provider: &CryptoProvider) -> Result<Names, SetupError> {
        if certificates.is_empty() {
            return Err(SetupError::NoCertificate);
        }
        let mut keys = Vec::new();
        let mut names = HashMap::new();
        let mut sources = Vec::new();
        for (place, certificate) in certificates.iter().enumerate() {
            let (chain, key) =
                (certificate.chain.certificates("tls_certificates chain")?, certificate.key.key()?);
            let before = names.len();
            for name in dns_names(certificate, &chain)? {
                // The first certificate for a name has it, as the first is the default.
                names.entry(name).or_insert(place);
            }
            if place > 0 && names.len() == before {
                return Err(SetupError::Contents {
                    what: "tls_certificates chain",
                    from: certificate.chain.name(),
                    found: "no DNS name that no certificate before it has, so it would never be used".into(),
                    expected: "a certificate with a DNS name of its own (subject alternative name)",
                });
            }
            keys.push(Arc::new(certified(certificate, &chain, &key, provider)?));
            sources.push((chain, key));
        }
        Ok(Names { keys, names: Arc::new(names), sources: Arc::new(sources) })
    }

    /// A copy for one shard, whose counts of references no other core touches.
    pub fn own(&self, provider: &CryptoProvider) -> Names {
        let copies = self.sources.iter().zip(&self.keys).map(|((chain, key), shared)| {
            // It was made of the same bytes before; should it not work now, the shared one serves as well.
            let copy = CertifiedKey::from_der(chain.clone(), key.clone_key(), provider);
            copy.map(Arc::new).unwrap_or_else(|_| shared.clone())
        });
        Names {
            keys: copies.collect(),
            names: Arc::new((*self.names).clone()),
            sources: self.sources.clone(),
        }
    }

    /// The certificate for a name; the first one without a name.
    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let place = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            self.names.get(&name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.names.get(&format!("*.{parent}"))
            })
        });
        self.keys.get(place.copied().unwrap_or(0))
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()).cloned()
    }
}

fn dns_names(certificate: &Certificate, chain: &[CertificateDer<'_>]) -> Result<Vec<String>, SetupError> {
    let unreadable = |error: String| SetupError::Contents {
        what: "tls_certificates chain",
        from: certificate.chain.name(),
        found: error,
        expected: "an X.509 v3 certificate",
    };
    let own = chain.first().ok_or(SetupError::NoCertificate)?;
    let own = webpki::EndEntityCert::try_from(own).map_err(|error| unreadable(error.to_string()))?;
    Ok(own.valid_dns_names().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect())
}

fn certified(
    certificate: &Certificate,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, SetupError> {
    CertifiedKey::from_der(chain.to_vec(), key.clone_key(), provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            SetupError::KeyMismatch { key: certificate.key.name(), chain: certificate.chain.name() }
        }
        error => SetupError::Contents {
            what: "tls_certificates key",
            from: certificate.key.name(),
            found: error.to_string(),
            expected: "a key of ECDSA P-256, P-384 or P-521, Ed25519 or RSA (2048 bits or more)",
        },
    })
}
