//! Configuration, the memory plan, metrics and logs.

#![forbid(unsafe_code)]

pub mod config;
pub mod logs;
pub mod metrics;
pub mod plan;

pub use config::{Config, ConfigError, one_line};
