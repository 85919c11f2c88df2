//! Reads the compiled object: how many instructions each program has and how much stack it uses.
//!
//! Counts what the kernel loads for a program: its own code and every function of the object that it reaches. Loads
//! and runs nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use object::{
    Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind, SymbolKind, SymbolSection,
};

use crate::instructions::{Instruction, decode, stack_depth};

/// The section of the functions that programs call; programs are in others.
const FUNCTIONS: &str = ".text";

/// Bytes of stack that a program has together with what it calls (`MAX_BPF_STACK`, `include/linux/filter.h`).
const STACK: u64 = 512;

/// What kernels before 6.7 round each function's stack up to, at least one (`check_max_stack_depth` in
/// `kernel/bpf/verifier.c`); later ones to 16.
const STACK_UNIT: u64 = 32;

/// What a program takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub(crate) struct Size {
    /// 8-byte instruction slots, functions it calls included once each.
    pub(crate) instructions: u64,
    /// Bytes of the deepest chain of calls, as the kernel counts them; it allows [`STACK`].
    pub(crate) stack: u64,
}

/// A function's place: section index and address in it.
type Place = (usize, u64);

/// A function as it is by itself.
struct Function {
    name: String,
    is_program: bool,
    instructions: u64,
    stack: u64,
    calls: BTreeSet<Place>,
}

/// Each program in the object at `path` with its size, by name.
///
/// # Errors
/// It is no BPF object, holds no program, a call in it leads nowhere, or a program takes too much stack.
pub(crate) fn sizes(path: &Path) -> Result<BTreeMap<String, Size>> {
    let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let file = object::File::parse(content.as_slice())
        .with_context(|| format!("{} is no object", path.display()))?;
    let functions =
        functions(&file).with_context(|| format!("read the code in {}", path.display()))?;
    let programs = functions.iter().filter(|(_, function)| function.is_program);
    let sizes: Result<BTreeMap<String, Size>> = programs
        .map(|(place, function)| Ok((function.name.clone(), size(&functions, *place)?)))
        .collect();
    let sizes = sizes?;
    ensure!(!sizes.is_empty(), "{} holds no program", path.display());
    Ok(sizes)
}

fn size(functions: &BTreeMap<Place, Function>, program: Place) -> Result<Size> {
    let mut reached = BTreeSet::new();
    let stack = deepest(functions, program, &mut Vec::new(), &mut reached)?;
    ensure!(
        stack <= STACK,
        "{} takes {stack} bytes of stack with what it calls; the kernel allows {STACK}",
        functions.get(&program).map_or("it", |f| f.name.as_str())
    );
    let instructions = reached
        .iter()
        .filter_map(|place| functions.get(place))
        .map(|f| f.instructions)
        .sum();
    Ok(Size {
        instructions,
        stack,
    })
}

/// The stack of the deepest chain of calls from `place`; `chain` is how it was reached.
fn deepest(
    functions: &BTreeMap<Place, Function>,
    place: Place,
    chain: &mut Vec<Place>,
    reached: &mut BTreeSet<Place>,
) -> Result<u64> {
    let function = functions
        .get(&place)
        .with_context(|| format!("a call leads to no function ({place:?})"))?;
    ensure!(!chain.contains(&place), "{} calls itself", function.name);
    reached.insert(place);
    chain.push(place);
    let mut below = 0;
    for callee in &function.calls {
        below = below.max(deepest(functions, *callee, chain, reached)?);
    }
    chain.pop();
    Ok(function.stack.max(1).next_multiple_of(STACK_UNIT) + below)
}

fn functions(file: &object::File) -> Result<BTreeMap<Place, Function>> {
    let mut functions = BTreeMap::new();
    for section in file
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
    {
        let code = section.data()?;
        let references = references(file, &section)?;
        let index = section.index().0;
        for symbol in file.symbols() {
            let is_here = symbol.section() == SymbolSection::Section(section.index());
            if symbol.kind() != SymbolKind::Text || !is_here || symbol.size() == 0 {
                continue;
            }
            let (start, end) = (symbol.address(), symbol.address() + symbol.size());
            let range = usize::try_from(start)?..usize::try_from(end)?;
            let name = symbol.name()?.to_owned();
            let body = decode(
                code.get(range)
                    .with_context(|| format!("{name} ends outside its section"))?,
            );
            let function = Function {
                is_program: section.name()? != FUNCTIONS,
                instructions: symbol.size() / 8,
                stack: stack_depth(&body),
                calls: calls(&body, (index, start), &references)?,
                name,
            };
            functions.insert((index, start), function);
        }
    }
    Ok(functions)
}

/// Where the section's relocations refer to code: by offset in the section, the place of the symbol.
fn references(
    file: &object::File,
    section: &object::Section,
) -> Result<HashMap<u64, (Place, bool)>> {
    let mut references = HashMap::new();
    for (offset, relocation) in section.relocations() {
        let RelocationTarget::Symbol(index) = relocation.target() else {
            continue;
        };
        let symbol = file.symbol_by_index(index)?;
        let SymbolSection::Section(target) = symbol.section() else {
            continue;
        };
        if file.section_by_index(target)?.kind() == SectionKind::Text {
            let is_section = symbol.kind() == SymbolKind::Section;
            references.insert(offset, ((target.0, symbol.address()), is_section));
        }
    }
    Ok(references)
}

/// The functions that the function at `at` calls, or hands to a helper as a callback.
fn calls(
    body: &[Instruction],
    at: Place,
    references: &HashMap<u64, (Place, bool)>,
) -> Result<BTreeSet<Place>> {
    let mut calls = BTreeSet::new();
    let mut index = 0;
    while let Some(instruction) = body.get(index) {
        let offset = at.1 + 8 * index as u64;
        let distance = i64::from(instruction.immediate);
        let target = match references.get(&offset) {
            // Relative to the symbol: nothing for a function, the place in the section for a section.
            Some((place, false)) => Some(*place),
            Some(((section, _), true)) if instruction.is_local_call() => {
                Some((*section, slots(0, distance + 1)?))
            }
            Some(((section, _), true)) => Some((*section, u64::try_from(distance)?)),
            None if instruction.is_local_call() => Some((at.0, slots(offset, distance + 1)?)),
            None => None,
        };
        calls.extend(target);
        index += if instruction.is_wide_load() { 2 } else { 1 };
    }
    Ok(calls)
}

/// The address `count` instruction slots after `address`.
fn slots(address: u64, count: i64) -> Result<u64> {
    match address.checked_add_signed(8 * count) {
        Some(target) => Ok(target),
        None => bail!("a call at {address} leads out of its section"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const LOCAL_CALL: [u8; 8] = [0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff];
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    fn function(name: &str, stack: u64, calls: &[Place]) -> Function {
        let calls = calls.iter().copied().collect();
        Function {
            name: name.to_owned(),
            is_program: false,
            instructions: 10,
            stack,
            calls,
        }
    }

    #[test]
    fn adds_the_deepest_chain_rounded_up_and_counts_a_shared_function_once() {
        let functions = BTreeMap::from([
            ((1, 0), function("program", 64, &[(2, 0), (2, 80)])),
            ((2, 0), function("shallow", 8, &[(2, 160)])),
            ((2, 80), function("deep", 100, &[(2, 160)])),
            ((2, 160), function("leaf", 16, &[])),
            ((2, 240), function("unused", 400, &[])),
        ]);
        assert_eq!(
            size(&functions, (1, 0)).unwrap(),
            Size {
                instructions: 40,
                stack: 64 + 128 + 32
            }
        );
    }

    #[test]
    fn refuses_a_chain_that_only_fits_before_it_is_rounded_up() {
        let chain = |last| {
            BTreeMap::from([
                ((1, 0), function("program", 480, &[(2, 0)])),
                ((2, 0), function("called", last, &[])),
            ])
        };
        assert_eq!(size(&chain(0), (1, 0)).unwrap().stack, 512);
        assert_eq!(
            size(&chain(33), (1, 0)).unwrap_err().to_string(),
            "program takes 544 bytes of stack with what it calls; the kernel allows 512"
        );
    }

    #[test]
    fn refuses_recursion_and_calls_into_nothing() {
        let circle = BTreeMap::from([
            ((1, 0), function("a", 8, &[(1, 0)])),
            ((1, 80), function("b", 8, &[(9, 9)])),
        ]);
        assert_eq!(
            size(&circle, (1, 0)).unwrap_err().to_string(),
            "a calls itself"
        );
        assert_eq!(
            size(&circle, (1, 80)).unwrap_err().to_string(),
            "a call leads to no function ((9, 9))"
        );
    }

    #[test]
    fn finds_callees_by_relocation_and_by_distance() {
        let body = decode(&[LOCAL_CALL, EXIT].concat());
        let to_symbol = HashMap::from([(80, ((2, 48), false))]);
        assert_eq!(
            calls(&body, (1, 80), &to_symbol).unwrap(),
            BTreeSet::from([(2, 48)])
        );
        let to_section = HashMap::from([(80, ((2, 0), true))]);
        assert_eq!(
            calls(&body, (1, 80), &to_section).unwrap(),
            BTreeSet::from([(2, 0)])
        );
        assert_eq!(
            calls(&body, (1, 80), &HashMap::new()).unwrap(),
            BTreeSet::from([(1, 80)])
        );
        assert!(
            calls(&body, (1, 0), &HashMap::new()).is_ok(),
            "-1 from the slot after the first is the first"
        );
    }
}
