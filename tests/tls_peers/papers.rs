//! Certificates and keys as files, as an operator would have them.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;

/// An authority that both sides may trust, and the folder with what it has issued.
pub struct Papers {
    dir: TempDir,
    /// True exactly when the keys of what it issues are RSA keys, else they are ECDSA keys on P-256.
    rsa: bool,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate chain and its key, in PEM files.
#[derive(Clone, Debug)]
pub struct Pair {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Papers {
    pub fn new() -> Papers {
        Papers::of("breakwater test authority")
    }

    /// Those of an authority of this name.
    pub fn of(name: &str) -> Papers {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key"));
        let papers = Papers {
            rsa: false,
            dir: tempfile::tempdir().expect("temporary directory"),
            authority: authority.expect("authority"),
        };
        std::fs::write(papers.authority(), papers.authority.pem()).expect("authority's file");
        papers
    }

    /// One whose certificates have RSA keys.
    pub fn with_rsa() -> Papers {
        Papers { rsa: true, ..Papers::new() }
    }

    /// The authority's certificate, for those who shall trust it.
    pub fn authority(&self) -> PathBuf {
        self.path("authority.pem")
    }

    /// A certificate for a server of these names and 127.0.0.1; the first is its common name and its files' name.
    pub fn server(&self, names: &[&str]) -> Pair {
        let mut alternative: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        alternative.push("127.0.0.1".into());
        self.issue(names[0], alternative, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client.
    pub fn client(&self, name: &str) -> Pair {
        self.issue(name, vec![name.to_string()], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A file with 32 bytes of secret, for tickets.
    pub fn ticket_key(&self) -> PathBuf {
        let path = self.path("tickets.key");
        std::fs::write(&path, rand::random::<[u8; 32]>()).expect("ticket key");
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.dir.path()).join(name)
    }

    fn issue(&self, name: &str, alternative: Vec<String>, usage: ExtendedKeyUsagePurpose) -> Pair {
        let key = match self.rsa {
            true => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
            false => KeyPair::generate(),
        };
        let key = key.expect("key");
        let mut params = CertificateParams::new(alternative).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.authority).expect("certificate");
        let pair = Pair { chain: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) };
        std::fs::write(&pair.chain, certificate.pem()).expect("certificate's file");
        std::fs::write(&pair.key, key.serialize_pem()).expect("key's file");
        pair
    }
}

impl Pair {
    /// The first certificate of the chain, DER.
    pub fn certificate(&self) -> Vec<u8> {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        CertificateDer::from_pem_file(&self.chain).expect("PEM").to_vec()
    }

    /// Puts this certificate where another one is, as a renewal does.
    pub fn replace(&self, other: &Pair) {
        std::fs::copy(&self.chain, &other.chain).expect("chain");
        std::fs::copy(&self.key, &other.key).expect("key");
    }
}
