//! Decodes BPF instructions as far as it takes to tell how much stack a function uses and whom it calls.
//!
//! Sources: RFC 9669 (BPF instruction set). Judges nothing: the kernel's verifier does that.

/// One 8-byte slot (RFC 9669 §3.1), little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    opcode: u8,
    dst: usize,
    src: usize,
    offset: i16,
    pub(crate) immediate: i32,
}

/// What is known of each register: its distance from the frame pointer in bytes, if it points into the frame.
type Registers = [Option<i64>; REGISTERS];

const REGISTERS: usize = 11;
const FRAME_POINTER: usize = 10;

/// `lddw`, the only instruction of two slots.
const LOAD_IMMEDIATE_64: u8 = 0x18;
/// `src` of a call of another BPF function (RFC 9669 §4.3.2).
const LOCAL_CALL: usize = 1;

/// Instruction classes, the low 3 bits of the opcode (RFC 9669 §3.1).
mod class {
    pub(super) const LDX: u8 = 1;
    pub(super) const ST: u8 = 2;
    pub(super) const STX: u8 = 3;
    pub(super) const JMP: u8 = 5;
    pub(super) const JMP32: u8 = 6;
    pub(super) const ALU64: u8 = 7;
}

/// Operations, the high 4 bits of the opcode (RFC 9669 §4.1, §4.3).
mod operation {
    pub(super) const ADD: u8 = 0x00;
    pub(super) const SUB: u8 = 0x10;
    pub(super) const MOV: u8 = 0xb0;
    pub(super) const JA: u8 = 0x00;
    pub(super) const CALL: u8 = 0x80;
    pub(super) const EXIT: u8 = 0x90;
}

impl Instruction {
    fn class(self) -> u8 {
        self.opcode & 0x07
    }

    fn operation(self) -> u8 {
        self.opcode & 0xf0
    }

    fn takes_register(self) -> bool {
        self.opcode & 0x08 != 0
    }

    fn is_jump(self) -> bool {
        matches!(self.class(), class::JMP | class::JMP32)
    }

    fn is_call(self) -> bool {
        self.class() == class::JMP && self.operation() == operation::CALL
    }

    /// True if it calls another function of the object, not a helper of the kernel.
    pub(crate) fn is_local_call(self) -> bool {
        self.is_call() && self.src == LOCAL_CALL
    }

    /// True if it loads 64 bits, such as the address of a map or a callback.
    pub(crate) fn is_wide_load(self) -> bool {
        self.opcode == LOAD_IMMEDIATE_64
    }

    /// The indices that may run after this instruction at `index`.
    fn successors(self, index: usize) -> impl Iterator<Item = usize> {
        let jump = self.is_jump() && !self.is_call();
        let exits = jump && self.operation() == operation::EXIT;
        let always = jump && self.operation() == operation::JA;
        let length = if self.is_wide_load() { 2 } else { 1 };
        let distance = match self.class() {
            class::JMP32 if always => i64::from(self.immediate),
            _ => i64::from(self.offset),
        };
        let next = (!exits && !always).then_some(index + length);
        let target = (jump && !exits)
            .then(|| index.checked_add_signed(isize::try_from(distance + 1).ok()?))
            .flatten();
        next.into_iter().chain(target)
    }

    /// Applies it to `registers`; returns the frame offset it touches or makes a pointer to.
    fn step(self, registers: &mut Registers) -> Option<i64> {
        let Self { dst, src, .. } = self;
        let offset = i64::from(self.offset);
        let immediate = i64::from(self.immediate);
        match self.class() {
            class::LDX => {
                let touched = registers[src].map(|base| base + offset);
                registers[dst] = None;
                touched
            }
            class::ST | class::STX => registers[dst].map(|base| base + offset),
            class::ALU64 => {
                registers[dst] = match (self.operation(), self.takes_register()) {
                    (operation::MOV, true) if self.offset == 0 => registers[src],
                    (operation::ADD, false) => registers[dst].map(|base| base + immediate),
                    (operation::SUB, false) => registers[dst].map(|base| base - immediate),
                    _ => None,
                };
                registers[dst]
            }
            class::JMP | class::JMP32 => {
                if self.is_call() {
                    registers[..=5].fill(None);
                }
                None
            }
            _ => {
                registers[dst] = None;
                None
            }
        }
    }
}

/// Decodes a function's code; a trailing part of a slot is left out.
pub(crate) fn decode(code: &[u8]) -> Vec<Instruction> {
    let (slots, _) = code.as_chunks::<8>();
    slots.iter().map(decode_slot).collect()
}

fn decode_slot(slot: &[u8; 8]) -> Instruction {
    let [opcode, registers, offset_low, offset_high, immediate @ ..] = *slot;
    Instruction {
        opcode,
        // 4 bits could name 16 registers, but there are 11; a broken object must not crash us.
        dst: usize::from(registers & 0x0f).min(FRAME_POINTER),
        src: usize::from(registers >> 4).min(FRAME_POINTER),
        offset: i16::from_le_bytes([offset_low, offset_high]),
        immediate: i32::from_le_bytes(immediate),
    }
}

/// The bytes of stack that a function uses itself: the deepest place below the frame pointer that it touches, or makes
/// a pointer to for others to touch. Follows every path, so a pointer counts only where it surely is one.
pub(crate) fn stack_depth(function: &[Instruction]) -> u64 {
    let mut entry: Registers = [None; REGISTERS];
    entry[FRAME_POINTER] = Some(0);
    let mut known: Vec<Option<Registers>> = vec![None; function.len()];
    let mut open = vec![(0, entry)];
    while let Some((index, arriving)) = open.pop() {
        let Some(before) = known.get_mut(index) else {
            continue;
        };
        let merged = match *before {
            Some(old) => merge(old, arriving),
            None => arriving,
        };
        if *before == Some(merged) {
            continue;
        }
        *before = Some(merged);
        let mut after = merged;
        function[index].step(&mut after);
        open.extend(function[index].successors(index).map(|next| (next, after)));
    }
    let touched = known
        .iter()
        .zip(function)
        .filter_map(|(registers, instruction)| instruction.step(&mut (*registers)?));
    touched
        .map(|offset| offset.min(0).unsigned_abs())
        .max()
        .unwrap_or(0)
}

/// Keeps what both paths agree on.
fn merge(one: Registers, other: Registers) -> Registers {
    std::array::from_fn(|register| one[register].filter(|_| one[register] == other[register]))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Opcodes of RFC 9669, named as `llvm-objdump -d` prints them.
    const MOV_REG: u8 = 0xbf;
    const ADD_IMM: u8 = 0x07;
    const STORE_U32: u8 = 0x62;
    const STORE_REG_U64: u8 = 0x7b;
    const LOAD_U64: u8 = 0x79;
    const JEQ_IMM: u8 = 0x15;
    const JA: u8 = 0x05;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;

    fn instruction(opcode: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
        let [low, high] = offset.to_le_bytes();
        let [a, b, c, d] = immediate.to_le_bytes();
        decode_slot(&[opcode, src << 4 | dst, low, high, a, b, c, d])
    }

    #[test]
    fn decodes_what_the_compiler_wrote() {
        // r7 += -0x40; call -0x1 (local)
        let code = [
            0x07, 0x07, 0, 0, 0xc0, 0xff, 0xff, 0xff, 0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff,
            0x95,
        ];
        let decoded = decode(&code);
        assert_eq!(
            decoded,
            [
                instruction(ADD_IMM, 7, 0, 0, -64),
                instruction(CALL, 0, 1, 0, -1)
            ]
        );
        assert!(decoded[1].is_local_call() && !instruction(CALL, 0, 0, 0, 5).is_local_call());
    }

    #[test]
    fn measures_the_deepest_use_of_the_frame() {
        let exit = instruction(EXIT, 0, 0, 0, 0);
        let pointer = [
            instruction(MOV_REG, 1, 10, 0, 0),
            instruction(ADD_IMM, 1, 0, 0, -40),
        ];
        let rows: [(&str, Vec<Instruction>, u64); 7] = [
            ("nothing", vec![exit], 0),
            (
                "a direct store",
                vec![instruction(STORE_U32, 10, 0, -8, 1), exit],
                8,
            ),
            (
                "a spilled register",
                vec![instruction(STORE_REG_U64, 10, 6, -16, 0), exit],
                16,
            ),
            (
                "a pointer that is handed on",
                [&pointer[..], &[instruction(CALL, 0, 0, 0, 5), exit]].concat(),
                40,
            ),
            (
                "a store through it",
                [&pointer[..], &[instruction(STORE_U32, 1, 0, -24, 1), exit]].concat(),
                64,
            ),
            (
                "a call forgets it",
                [
                    &pointer[..],
                    &[
                        instruction(CALL, 0, 0, 0, 5),
                        instruction(STORE_U32, 1, 0, -90, 1),
                        exit,
                    ],
                ]
                .concat(),
                40,
            ),
            (
                "a load overwrites it",
                [
                    &pointer[..],
                    &[
                        instruction(LOAD_U64, 1, 1, 0, 0),
                        instruction(STORE_U32, 1, 0, -90, 1),
                        exit,
                    ],
                ]
                .concat(),
                40,
            ),
        ];
        for (name, function, depth) in rows {
            assert_eq!(stack_depth(&function), depth, "{name}");
        }
    }

    #[test]
    fn follows_jumps() {
        let exit = instruction(EXIT, 0, 0, 0, 0);
        let pointer = instruction(MOV_REG, 6, 10, 0, 0);
        let deep = instruction(STORE_U32, 6, 0, -200, 1);
        let taken = [pointer, instruction(JA, 0, 0, 1, 0), exit, deep, exit];
        assert_eq!(stack_depth(&taken), 200, "a jump to the store");
        let dead = [pointer, instruction(JA, 0, 0, 1, 0), deep, exit];
        assert_eq!(stack_depth(&dead), 0, "a store that nothing reaches");
        let either = [instruction(JEQ_IMM, 1, 0, 1, 0), pointer, deep, exit];
        assert_eq!(
            stack_depth(&either),
            0,
            "r6 is a frame pointer on one path only"
        );
        let back = [
            pointer,
            instruction(ADD_IMM, 6, 0, 0, -8),
            instruction(JEQ_IMM, 1, 0, -2, 0),
            exit,
        ];
        assert_eq!(
            stack_depth(&back),
            0,
            "a loop that moves the pointer ends the search"
        );
    }
}
