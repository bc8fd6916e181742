//! Bearer keys.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::{Choice, ConstantTimeEq};

use crate::failure::{Failure, Kind};

/// Refuses a request that bears none of the keys. Without keys, every request is allowed.
///
/// All keys are compared, each in a time that depends on lengths only.
pub(super) fn check(headers: &HeaderMap, keys: &[String]) -> Result<(), Failure> {
    if keys.is_empty() {
        return Ok(());
    }
    let refuse = |problem| Err(Failure::new(Kind::Unauthorized, problem));
    let Some(header) = headers.get(AUTHORIZATION) else {
        return refuse("no key: send the header `Authorization: Bearer KEY`");
    };
    let Some((scheme, key)) = header.to_str().ok().and_then(|header| header.split_once(' ')) else {
        return refuse("the header `Authorization` is not `Bearer KEY`");
    };
    let key = key.trim().as_bytes();
    let is_known = keys.iter().fold(Choice::from(0), |known, other| known | other.as_bytes().ct_eq(key));
    match scheme.eq_ignore_ascii_case("bearer") && bool::from(is_known) {
        true => Ok(()),
        false => refuse("the key is not valid"),
    }
}
