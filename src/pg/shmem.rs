//! A region of shared memory: data under one lock, and beside it slots that need none.

use crate::pg::condition::Condition;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, UnsafeCell};
use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What a region holds. Header and entries are `Copy`, so they own no memory of a single process,
/// and are read and written under the region's lock.
pub trait Layout: Sized + 'static {
    /// Name of the region and of its lock, as `pg_shmem_allocations` and wait events show it.
    const NAME: &'static CStr;
    /// Stands once at the start of the region.
    type Header: Copy + Send + 'static;
    /// Stands [`Layout::entries`] times.
    type Entry: Copy + Send + 'static;
    /// How many entries there are; asked once, at server start.
    fn entries() -> usize;
    /// The header of a fresh region.
    fn header() -> Self::Header;
    /// An entry of a fresh region.
    fn entry() -> Self::Entry;
    /// Where the region is kept: a static of the layout's own.
    fn cell() -> &'static RegionCell<Self>;
}

/// Counters in every slot.
pub const COUNTERS: usize = 12;

/// Belongs to the entry of the same index, and is read and written without the lock.
#[repr(C)]
pub struct Slot {
    /// Meaning and unit are the owner's.
    pub counters: [AtomicU64; COUNTERS],
    /// To be broadcast after a counter moved that others wait for.
    pub moved: Condition,
}

/// A region as one process sees it.
pub struct Region<L: Layout> {
    lock: *mut pg_sys::LWLock,
    header: *mut UnsafeCell<L::Header>,
    entries: *mut UnsafeCell<L::Entry>,
    slots: *const Slot,
    changed: *const Condition,
    length: usize,
}

/// Where the region of a [`Layout`] is found once the server has started.
pub struct RegionCell<L: Layout>(AtomicPtr<Region<L>>, PhantomData<L>);

impl<L: Layout> RegionCell<L> {
    /// A cell without a region.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()), PhantomData)
    }

    /// The region; `None` when the library was not preloaded.
    pub fn get(&self) -> Option<&'static Region<L>> {
        // SAFETY: only `startup` stores here, a leaked box, before any other process is forked.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}

impl<L: Layout> Region<L> {
    /// Runs `f` with shared access. `f` must not call into Postgres and not use the region again.
    pub fn read<R>(&self, f: impl FnOnce(&L::Header, &[L::Entry]) -> R) -> R {
        let _lock = Lock::acquire(self.lock, pg_sys::LWLockMode::LW_SHARED);
        // SAFETY: header and entries were initialized in `startup`; every writer holds the lock
        // exclusively, so nobody changes them while it is held shared.
        unsafe {
            let header = &*(*self.header).get();
            let entries = std::slice::from_raw_parts(self.entries.cast::<L::Entry>(), self.length);
            f(header, entries)
        }
    }

    /// Runs `f` with exclusive access. `f` must not call into Postgres and not use the region again.
    pub fn write<R>(&self, f: impl FnOnce(&mut L::Header, &mut [L::Entry]) -> R) -> R {
        let _lock = Lock::acquire(self.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        // SAFETY: as in `read`; the exclusive lock makes this the only reference in any process.
        unsafe {
            let header = &mut *(*self.header).get();
            let entries =
                std::slice::from_raw_parts_mut(self.entries.cast::<L::Entry>(), self.length);
            f(header, entries)
        }
    }

    /// The slot that belongs to the entry `index`.
    pub fn slot(&self, index: usize) -> Option<&Slot> {
        // SAFETY: slots were initialized in `startup`, are never moved, and change only through
        // atomics and the condition's own spinlock.
        (index < self.length).then(|| unsafe { &*self.slots.add(index) })
    }

    /// To be broadcast by whoever changed something under the lock that others wait for.
    pub fn changed(&self) -> &Condition {
        // SAFETY: as for the slots.
        unsafe { &*self.changed }
    }
}

/// The region's LWLock, held.
struct Lock(*mut pg_sys::LWLock);

impl Lock {
    fn acquire(lock: *mut pg_sys::LWLock, mode: pg_sys::LWLockMode::Type) -> Self {
        // SAFETY: the lock is one of a named tranche, valid for the life of the server.
        unsafe { pg_sys::LWLockAcquire(lock, mode) };
        Self(lock)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // SAFETY: acquired above by this process. After an ERROR the holdoff count is zero and the
        // abort releases the lock; releasing here would make the count wrap.
        unsafe {
            if pg_sys::InterruptHoldoffCount > 0 {
                pg_sys::LWLockRelease(self.0);
            }
        }
    }
}

thread_local! {
    static PREVIOUS_REQUEST: Cell<pg_sys::shmem_request_hook_type> = const { Cell::new(None) };
    static PREVIOUS_STARTUP: Cell<pg_sys::shmem_startup_hook_type> = const { Cell::new(None) };
}

/// Asks for the region at server start and makes it known through its cell. To be called once, from
/// `_PG_init` while `shared_preload_libraries` is processed.
pub fn install<L: Layout>() {
    // SAFETY: the hooks are plain variables of the postmaster, which has one thread.
    unsafe {
        PREVIOUS_REQUEST.set(pg_sys::shmem_request_hook);
        pg_sys::shmem_request_hook = Some(request::<L>);
        PREVIOUS_STARTUP.set(pg_sys::shmem_startup_hook);
        pg_sys::shmem_startup_hook = Some(startup::<L>);
    }
}

/// Offsets of the parts and the size of the whole, in bytes.
struct Plan {
    changed: usize,
    entries: usize,
    slots: usize,
    size: usize,
}

impl Plan {
    fn of<L: Layout>() -> Self {
        let changed = size_of::<L::Header>().next_multiple_of(align_of::<Condition>());
        let entries = (changed + size_of::<Condition>()).next_multiple_of(align_of::<L::Entry>());
        let slots =
            (entries + size_of::<L::Entry>() * L::entries()).next_multiple_of(align_of::<Slot>());
        Self { changed, entries, slots, size: slots + size_of::<Slot>() * L::entries() }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn request<L: Layout>() {
    if let Some(previous) = PREVIOUS_REQUEST.get() {
        // SAFETY: the hook of another library, called as Postgres would have called it.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| previous()) };
    }
    // SAFETY: this is the hook in which both calls are allowed.
    unsafe {
        pg_sys::RequestAddinShmemSpace(Plan::of::<L>().size);
        pg_sys::RequestNamedLWLockTranche(L::NAME.as_ptr(), 1);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn startup<L: Layout>() {
    if let Some(previous) = PREVIOUS_STARTUP.get() {
        // SAFETY: the hook of another library, called as Postgres would have called it.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| previous()) };
    }
    let plan = Plan::of::<L>();
    let length = L::entries();
    // SAFETY: ShmemInitStruct returns memory of that size, aligned to a cache line, which outlives
    // every process. Only the postmaster runs this, before it forks; after a crash it runs again
    // over fresh memory.
    unsafe {
        let mut found = false;
        let base =
            pg_sys::ShmemInitStruct(L::NAME.as_ptr(), plan.size, &raw mut found).cast::<u8>();
        let region = Region::<L> {
            lock: &raw mut (*pg_sys::GetNamedLWLockTranche(L::NAME.as_ptr())).lock,
            header: base.cast(),
            entries: base.add(plan.entries).cast(),
            slots: base.add(plan.slots).cast(),
            changed: base.add(plan.changed).cast(),
            length,
        };
        if !found {
            region.header.write(UnsafeCell::new(L::header()));
            Condition::initialize(region.changed.cast_mut());
            for index in 0..length {
                region.entries.add(index).write(UnsafeCell::new(L::entry()));
                let slot = region.slots.cast_mut().add(index);
                (&raw mut (*slot).counters).write([const { AtomicU64::new(0) }; COUNTERS]);
                Condition::initialize(&raw mut (*slot).moved);
            }
        }
        L::cell().0.store(Box::into_raw(Box::new(region)), Ordering::Release);
    }
}
