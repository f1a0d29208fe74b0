//! The HTTPS server on loopback, met by clients that are slow, wrong, many or about to be left alone.
//!
//! The limits are those of production made small, so that a test waits for fractions of a second; one test
//! holds the real ones.

mod server {
    pub(crate) mod kit;

    mod certificates;
    mod drain;
    mod hardening;
    mod overload;
    mod patience;
    mod process;
    mod requests;
    mod telling;
    mod validation;
}
