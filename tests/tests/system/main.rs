//! The whole system, tried in earnest: the real binary, real sockets, real clients.
//!
//! | module | what it tries |
//! |---|---|
//! | [`alarm`] | the broker takes nothing for a while: what is stored is still delivered |
//! | [`any_node`] | clients that move between the nodes of one broker |
//! | [`bad_input`] | every kind of bad input: its code, its remedy, and that nobody else notices |
//! | [`broker_killed`] | the broker dies and comes back during publishing |
//! | [`client_killed`] | a client with a store on disk, killed at any moment |
//! | [`commands`] | each done once, or said not to be, whatever is killed |
//! | [`doors`] | who gets in at all: half handshakes, deadlines, limits, origins |
//! | [`drain`] | SIGTERM: a slot for each client, and nobody before it |
//! | [`examples`] | the examples of the Rust client, as they say to run them |
//! | [`guide`] | what `docs/SDK.md` shows, line by line |
//! | [`half_open`] | the way to the broker goes silent |
//! | [`herd`] | 2,000 clients that come back at once, if they were let |
//! | [`http`] | publishing by HTTP, health, metrics |
//! | [`kill`] | SIGKILL, again and again, under load |
//! | [`links`] | networks that cut, freeze, delay and refuse |
//! | [`lost_history`] | what the log loses under its clients: trimmed, deleted, failed over without its tail |
//! | [`lost_on_rabbitmq`] | the same on RabbitMQ |
//! | [`mqtt`] | devices that speak MQTT to RabbitMQ |
//! | [`readers`] | clients that read slowly, or not at all |
//! | [`resume`] | what a cursor is worth: ring, log, gap, reset |
//! | [`secrecy`] | no token in any log |
//! | [`shadow_duty`] | whoever acts on shadows is killed, fifty times |
//! | [`shadows`] | what apps want of a device, what it says of itself, and that both last |
//! | [`snapshots`] | what a dashboard is shown first, and after it was away |
//! | [`tls`] | certificates, and handshakes that never end |
//! | [`transient`] | messages that no log keeps |
//! | [`token_life`] | tokens that end, are renewed, and grant less |
//! | [`waiting`] | a gateway that is there before its broker |
//! | [`wake`] | sockets that died while their machine slept |

#![forbid(unsafe_code)]

mod alarm;
mod any_node;
mod bad_input;
mod broker_killed;
mod brokers;
mod client_killed;
mod commands;
mod doors;
mod drain;
mod examples;
mod fleet;
mod guide;
mod half_open;
mod herd;
mod http;
mod kill;
mod links;
mod lost_history;
mod lost_on_rabbitmq;
mod mqtt;
mod readers;
mod resume;
mod secrecy;
mod shadow_duty;
mod shadows;
mod snapshots;
mod tls;
mod token_life;
mod told;
mod transient;
mod waiting;
mod wake;
