//! The HTTP API: its answers are the command line's, no key sees more than it may, and files that change are
//! noticed. Servers run in this process, at any free port; what concerns signals runs the binary.
#![cfg(feature = "serve")]

mod access;
mod answers;
mod client;
mod files;
mod process;
