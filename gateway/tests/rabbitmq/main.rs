//! RabbitMQ as the log, on real servers.

#![cfg(feature = "rabbitmq")]

mod conformance;
mod kit;
