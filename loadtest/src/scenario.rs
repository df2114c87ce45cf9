//! One file for each scenario: it starts its gateway, makes its load, and returns its figures.

pub mod idle;
pub mod through;
