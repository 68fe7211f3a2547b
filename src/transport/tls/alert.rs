//! Alerts (RFC 8446, section 6) and the ends they stand for.

use crate::base::End;

/// close_notify: the sender sends no more.
pub const CLOSE_NOTIFY: u8 = 0;
/// unexpected_message.
pub const UNEXPECTED_MESSAGE: u8 = 10;
/// bad_record_mac.
pub const BAD_RECORD_MAC: u8 = 20;
/// record_overflow.
pub const RECORD_OVERFLOW: u8 = 22;
/// handshake_failure.
pub const HANDSHAKE_FAILURE: u8 = 40;
/// certificate_expired.
pub const CERTIFICATE_EXPIRED: u8 = 45;
/// illegal_parameter.
pub const ILLEGAL_PARAMETER: u8 = 47;
/// decode_error.
pub const DECODE_ERROR: u8 = 50;
/// protocol_version.
pub const PROTOCOL_VERSION: u8 = 70;
/// internal_error.
pub const INTERNAL_ERROR: u8 = 80;
/// user_canceled: informs, and a close_notify follows.
pub const USER_CANCELED: u8 = 90;

/// Why nothing more is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// What is counted.
    pub end: End,
    /// What the peer is told; nothing when it was the peer who said that it ends.
    pub alert: Option<u8>,
}

impl Violation {
    const fn new(end: End, alert: u8) -> Violation {
        Violation { end, alert: Some(alert) }
    }

    /// A record or message that does not belong there.
    pub const UNEXPECTED: Violation = Violation::new(End::TlsUnexpected, UNEXPECTED_MESSAGE);
    /// A message of the wrong length.
    pub const DECODE: Violation = Violation::new(End::TlsUnexpected, DECODE_ERROR);
    /// A field with a value that it must not have.
    pub const ILLEGAL: Violation = Violation::new(End::TlsUnexpected, ILLEGAL_PARAMETER);
    /// A record that does not authenticate.
    pub const MAC: Violation = Violation::new(End::TlsBadRecord, BAD_RECORD_MAC);
    /// A record that is too long.
    pub const OVERFLOW: Violation = Violation::new(End::TlsOverflow, RECORD_OVERFLOW);
    /// More than we take of what costs us work and brings nothing.
    pub const LIMIT: Violation = Violation::new(End::TlsLimit, UNEXPECTED_MESSAGE);
    /// A client that does not speak TLS 1.3.
    pub const VERSION: Violation = Violation::new(End::TlsVersion, PROTOCOL_VERSION);
    /// More bytes than a handshake may have.
    pub const TOO_MUCH: Violation = Violation::new(End::TlsLimit, HANDSHAKE_FAILURE);
    /// A failure of ours.
    pub const INTERNAL: Violation = Violation::new(End::TlsLimit, INTERNAL_ERROR);
    /// The peer ends by an alert.
    pub const ALERTED: Violation = Violation { end: End::TlsAlert, alert: None };
}
