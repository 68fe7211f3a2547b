//! Configuration, times as people write them, the memory plan, what the host carries, the admin interface, metrics and logs.

#![forbid(unsafe_code)]

pub mod admin;
pub mod admin_config;
mod capacity;
pub mod config;
pub mod duration;
pub mod encryption;
pub mod host;
pub mod logs;
pub mod metrics;
pub mod ops;
pub mod plan;
pub mod services;

pub use config::{Config, ConfigError, one_line};
pub use duration::duration;
