//! The room `auth`, seen from outside: every question that the gateway asks it, as tables.

mod grants;
