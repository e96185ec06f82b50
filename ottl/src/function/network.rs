//! `CommunityID`: the name of a network flow that is the same from both of its ends (Community ID specification, version 1).

use std::net::IpAddr;

use sha1::{Digest, Sha1};

use super::{Arguments, Function, Kind, converter, needed, optional};
use crate::fault::Fault;
use crate::value::{Value, base64_padded};

pub(super) const TABLE: &[Function] = &[converter(
    "CommunityID",
    &[
        needed("source_ip", Kind::Text),
        needed("source_port", Kind::Int),
        needed("destination_ip", Kind::Text),
        needed("destination_port", Kind::Int),
        optional("protocol", Kind::Text),
        optional("seed", Kind::Int),
    ],
    community_id,
)];

/// IANA's numbers of protocols.
const PROTOCOLS: [(&[u8], u8); 6] =
    [(b"ICMP", 1), (b"TCP", 6), (b"UDP", 17), (b"RSVP", 46), (b"ICMP6", 58), (b"SCTP", 132)];

fn community_id<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let mut source = endpoint(arguments, 0)?;
    let mut target = endpoint(arguments, 2)?;
    let protocol = match arguments.optional_text(4) {
        None => 6,
        Some(name) => {
            let known = PROTOCOLS.iter().find(|(known, _)| **known == *name);
            known.ok_or(Fault::invalid("the protocol is none of TCP, UDP, SCTP, ICMP, ICMP6 and RSVP"))?.1
        }
    };
    let seed = sixteen_bits(arguments, 5)?;
    // The lesser end comes first; of addresses of two kinds, the shorter one.
    let order = |end: &(Vec<u8>, u16)| (end.0.len(), end.0.clone(), end.1);
    if order(&source) > order(&target) {
        std::mem::swap(&mut source, &mut target);
    }
    let hash = Sha1::new()
        .chain_update(seed.to_be_bytes())
        .chain_update(&source.0)
        .chain_update(&target.0)
        .chain_update([protocol, 0])
        .chain_update(source.1.to_be_bytes())
        .chain_update(target.1.to_be_bytes())
        .finalize();
    Ok(Value::owned_text(format!("1:{}", base64_padded(&hash))))
}

/// Address and port at `index` and behind it.
fn endpoint(arguments: &mut Arguments<'_>, index: usize) -> Result<(Vec<u8>, u16), Fault> {
    let address: IpAddr =
        arguments.letters(index).parse().map_err(|_| Fault::invalid("the string is no IP address"))?;
    let bytes = match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    Ok((bytes, sixteen_bits(arguments, index + 1)?))
}

fn sixteen_bits(arguments: &mut Arguments<'_>, index: usize) -> Result<u16, Fault> {
    u16::try_from(arguments.int(index)).map_err(|_| Fault::invalid("expected a number from 0 to 65535"))
}
