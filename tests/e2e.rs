//! End-to-end tests against the built binary: real sockets, real files, port 0, a fresh directory each.
#![cfg(test)]

mod harness;

mod admin;
mod agent;
mod cli;
mod config;
mod disk_full;
mod durability;
mod import;
mod limits;
mod logs_api;
mod logs_delete;
mod logs_hostile;
mod logs_limits;
mod logs_model;
mod native_histograms;
mod parquet;
mod query_api;
mod receive;
mod self_metrics;
mod shutdown;
mod verify;
