//! Ports for servers that have to get the same one again after a restart.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, TcpListener};

const LOWEST: u16 = 10_240;

/// So many different free ports on 127.0.0.1, all below the range from which the system takes the ports of outgoing
/// connections: one of those could take the port while its server is down.
///
/// # Errors
/// So many are not to be found, in 10,000 tries.
pub fn free<const N: usize>() -> std::io::Result<[u16; N]> {
    let above = first_ephemeral();
    let room = u64::from(above - LOWEST);
    let random = RandomState::new();
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for attempt in 0..10_000_u64 {
        let Some(port) = ports.get_mut(held.len()) else { break };
        // Below 2^16 by the remainder.
        let candidate = LOWEST + (random.hash_one(attempt) % room) as u16;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)) {
            *port = candidate;
            held.push(listener);
        }
    }
    if held.len() < N {
        return Err(std::io::Error::other(format!("no {N} free ports between {LOWEST} and {above}")));
    }
    Ok(ports)
}

fn first_ephemeral() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|word| word.parse().ok());
    first.filter(|first| *first > LOWEST + 1_000).unwrap_or(32_768)
}
