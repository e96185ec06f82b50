//! A timer for each thread that interrupts it every so many nanoseconds of its own CPU time.
//!
//! A thread that sleeps is not interrupted, so what is counted is work, and nobody's wait is cut short. The handler stays
//! installed once it was: a signal that comes late would otherwise end the process.

#![allow(unsafe_code)]

use super::super::{DEPTH_MAX, cpu};
use super::frames;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

/// Timers that run until this is dropped. They belong to the thread that made them.
#[derive(Debug, Default)]
pub(in crate::profile) struct Timers(Vec<libc::timer_t>);

impl Timers {
    /// Interrupts the thread of this process with the system's number `thread` after each `period` of its CPU time; every
    /// sample carries `number`.
    ///
    /// # Errors
    /// The system has no such thread any more, or gives no timer.
    pub(in crate::profile) fn add(&mut self, thread: u32, number: u32, period: Duration) -> io::Result<()> {
        install_handler()?;
        let thread = libc::pid_t::try_from(thread).map_err(io::Error::other)?;
        // As the kernel packs them: a thread's number, inverted; a clock of one thread (4); time that was scheduled (2).
        let clock = (!thread << 3) | 4 | 2;
        let timer = create(clock, thread, number)?;
        self.0.push(timer);
        let period = libc::timespec {
            tv_sec: period.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(period.subsec_nanos() as i32),
        };
        let times = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: `timer` was created above and is deleted only when `self` is dropped; `times` is a variable of this
        // function, and null says that the times before are not wanted.
        check(unsafe { libc::timer_settime(timer, 0, &times, std::ptr::null_mut()) })
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        for timer in self.0.drain(..) {
            // SAFETY: `timer_create` gave it, and it leaves the list with this call, so it is deleted once.
            unsafe { libc::timer_delete(timer) };
        }
    }
}

fn create(clock: libc::clockid_t, thread: libc::pid_t, number: u32) -> io::Result<libc::timer_t> {
    let mut timer: libc::timer_t = std::ptr::null_mut();
    // SAFETY: all fields of both are numbers and pointers, for which zero is a value.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = libc::SIGPROF;
    event.sigev_notify_thread_id = thread;
    event.sigev_value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(number as usize) };
    // SAFETY: both pointers are to variables of this function. The signal has a handler since `install_handler`.
    check(unsafe { libc::timer_create(clock, &mut event, &mut timer) })?;
    Ok(timer)
}

/// Once per process.
fn install_handler() -> io::Result<()> {
    static INSTALLED: OnceLock<Option<i32>> = OnceLock::new();
    let failed = INSTALLED.get_or_init(|| {
        // SAFETY: all fields are numbers and pointers, for which zero is a value: an empty mask among them.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_tick as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: `on_tick` has the signature that SA_SIGINFO asks for, and does only what a handler may: it reads this
        // thread's registers and stack, and writes atomics. Null says that the handler before is not wanted; SIGPROF has
        // none that anybody waits for.
        check(unsafe { libc::sigaction(libc::SIGPROF, &action, std::ptr::null_mut()) })
            .err()
            .map(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    });
    failed.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A thread has worked for another period.
extern "C" fn on_tick(_signal: libc::c_int, what: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes both, valid until the handler returns; `context` is a `ucontext_t`.
    let (what, context) = unsafe { (&*what, &*context.cast::<libc::ucontext_t>()) };
    if what.si_code != libc::SI_TIMER {
        return;
    }
    // SAFETY: a timer's signal carries the value that its creation gave; this file creates all timers of this signal.
    let number = unsafe { what.si_value() }.sival_ptr.addr();
    cpu::interrupted(|| {
        let [instruction, stack, frame] = registers(context);
        let mut words = [0; DEPTH_MAX];
        words[0] = number;
        words[1] = instruction;
        // SAFETY: `stack` is the stack pointer of the code that this handler interrupted, on this thread: the handler runs
        // below it on the same stack, as no other stack was asked for.
        let depth = unsafe { frames::walk(frame, stack, &mut words[2..]) };
        (words, 2 + depth)
    });
}

/// Of the interrupted code: instruction, stack pointer, frame pointer.
fn registers(context: &libc::ucontext_t) -> [usize; 3] {
    let registers = &context.uc_mcontext;
    #[cfg(target_arch = "x86_64")]
    let found = [libc::REG_RIP, libc::REG_RSP, libc::REG_RBP].map(|at| registers.gregs[at as usize] as usize);
    #[cfg(target_arch = "aarch64")]
    let found = [registers.pc as usize, registers.sp as usize, registers.regs[29] as usize];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found = [0; 3];
    found
}
