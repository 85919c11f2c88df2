//! Types and decisions that the agent, the kernel programs and the tests share.
#![no_std]
