//! RabbitMQ as the log, on real servers.

#![cfg(feature = "rabbitmq")]

mod alarm;
mod conformance;
mod feeds;
mod foreign;
mod gone;
mod kit;
mod mqtt;
mod nodes;
mod outage;
mod partitions;
mod poison;
mod readers;
mod refused;
mod roll;
mod stall;
mod tls;
