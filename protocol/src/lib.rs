//! The language that Anabranch's gateway and clients speak.

pub mod code;
pub mod cursor;
pub mod filter;
pub mod json;
pub mod limits;
pub mod topic;
