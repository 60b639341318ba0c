use super::*;
use crate::base::limits::WASM_PAGE_BYTES;

const SHIFT: u32 = 12;

fn shape(controls: Vec<ControlShape>) -> Shape {
    let (control_bytes, state_offset) = ((1 << 20) + WASM_PAGE_BYTES, 1 << 20);
    Shape { card_shift: SHIFT, control_bytes, state_offset, controls }
}

fn images(budget: usize, modules: usize) -> Images {
    let controls = vec![ControlShape { state_bytes: 16 }; modules];
    let images = Images::new(budget, &shape(controls)).unwrap();
    assert!(images.live_slot().set_size(budget));
    images
}

/// Writes like a guest: mark first, then the byte.
fn write(images: &Images, module: usize, address: usize, value: u8) {
    mark(images, module, address);
    // SAFETY: tests stay inside the live size.
    unsafe { images.live_slot().base().as_ptr().add(address).write(value) };
}

fn mark(images: &Images, module: usize, address: usize) {
    let table = images.control_slot(module).unwrap().base().as_ptr();
    // SAFETY: the card table covers every 32-bit address.
    unsafe { table.add(address >> SHIFT).write(1) };
}

fn read(images: &Images, address: usize) -> u8 {
    // SAFETY: tests stay inside the live size.
    unsafe { images.live_slot().base().as_ptr().add(address).read() }
}

#[test]
fn commit_keeps_and_roll_back_undoes() {
    let mut images = images(1 << 20, 1);
    write(&images, 0, 70_000, 7);
    let changed = images.commit();
    assert_eq!(changed.cards, 1);
    assert_eq!(changed.bytes, 4096 + OVERRUN_BYTES as u64);
    images.verify().unwrap();
    write(&images, 0, 70_000, 8);
    write(&images, 0, 0, 9);
    images.roll_back();
    assert_eq!((read(&images, 70_000), read(&images, 0)), (7, 0));
    images.verify().unwrap();
    assert_eq!(images.commit(), Changed::default(), "marks are gone");
}

#[test]
fn neighbouring_cards_are_one_run_and_the_last_card_is_cut_at_the_end() {
    let mut images = images(1 << 20, 1);
    for card in [3, 4, 5, 255] {
        write(&images, 0, card << SHIFT, 1);
    }
    let changed = images.commit();
    assert_eq!(changed.cards, 4);
    assert_eq!(changed.bytes, 3 * 4096 + OVERRUN_BYTES as u64 + 4096);
    images.verify().unwrap();
}

#[test]
fn a_store_across_two_cards_needs_only_the_first_mark() {
    let mut images = images(1 << 20, 1);
    mark(&images, 0, 4090);
    for address in 4090..4090 + 16 {
        // SAFETY: inside the live size.
        unsafe { images.live_slot().base().as_ptr().add(address).write(5) };
    }
    images.commit();
    images.verify().unwrap();
}

#[test]
fn marks_of_all_modules_count() {
    let mut images = images(1 << 20, 3);
    write(&images, 0, 4096, 1);
    write(&images, 2, 4097, 2);
    write(&images, 1, 900_000, 3);
    assert_eq!(images.commit().cards, 2);
    images.verify().unwrap();
}

#[test]
fn growth_is_undone_and_regrown_bytes_are_zero() {
    let mut images = images(1 << 20, 1);
    assert!(images.live_slot().set_size(65_536));
    write(&images, 0, 5, 1);
    images.commit();
    assert!(images.live_slot().set_size(1 << 20));
    write(&images, 0, 65_535, 2);
    write(&images, 0, 65_536, 3);
    write(&images, 0, 500_000, 4);
    images.roll_back();
    assert_eq!(images.live_size(), 65_536);
    assert!(images.live_slot().set_size(1 << 20));
    assert_eq!((read(&images, 65_536), read(&images, 500_000)), (0, 0));
    images.commit();
    images.verify().unwrap();
}

#[test]
fn an_unmarked_write_is_found_by_the_oracle() {
    let mut images = images(1 << 20, 1);
    images.commit();
    images.verify_marks().unwrap();
    mark(&images, 0, 8192);
    // SAFETY: inside the live size. The second byte is in the overrun of the mark.
    unsafe {
        images.live_slot().base().as_ptr().add(8192 + 4096 + 5).write(1);
        images.verify_marks().unwrap();
        images.live_slot().base().as_ptr().add(123).write(1);
    };
    assert_eq!(images.verify_marks(), Err(Mismatch::Data { offset: 123 }));
    images.commit();
    assert_eq!(images.verify(), Err(Mismatch::Data { offset: 123 }));
}

#[test]
fn a_first_commit_forgets_the_state_before_it() {
    let mut images = images(1 << 20, 1);
    write(&images, 0, 1_000_000, 7);
    images.commit();
    images.clear_live();
    assert!(images.live_slot().set_size(65_536));
    images.commit_whole();
    images.verify().unwrap();
    assert!(images.live_slot().set_size(1 << 20));
    images.roll_back();
    assert!(images.live_slot().set_size(1 << 20));
    images.commit();
    images.verify().unwrap();
    assert_eq!(read(&images, 1_000_000), 0);
}

#[test]
fn a_shape_that_does_not_fit_is_refused() {
    let control = |state_bytes| vec![ControlShape { state_bytes }];
    assert!(matches!(
        Images::new(1 << 20, &shape(control(WASM_PAGE_BYTES + 1))),
        Err(ImagesError::Layout)
    ));
    let short = Shape { state_offset: 256, ..shape(control(16)) };
    assert!(matches!(Images::new(1 << 20, &short), Err(ImagesError::Layout)));
}

#[test]
fn clearing_and_loading_bring_the_commit_back() {
    let mut images = images(1 << 20, 1);
    write(&images, 0, 77, 7);
    let state = state_address(&images.controls[0].slot, images.state_offset);
    // SAFETY: the state area has 16 bytes.
    unsafe { state.write(42) };
    images.commit();
    let hash = images.committed_hash();
    assert_eq!(hash, images.live_hash());
    images.clear_live();
    assert_eq!(read(&images, 77), 0);
    let state = |images: &Images| live_state(&images.controls[0], images.state_offset)[0];
    assert_eq!(state(&images), 0);
    images.set_live_size_to_committed();
    images.load_committed();
    images.verify().unwrap();
    assert_eq!(state(&images), 42);
    assert_eq!(images.committed_hash(), hash);
}
