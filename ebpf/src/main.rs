//! TC programs of branchline.
#![no_std]
#![no_main]
