//! The room `auth`, seen from outside: every question that the gateway asks it, as tables.

mod bad_tokens;
mod forge;
mod good_tokens;
mod grants;
mod setup;
