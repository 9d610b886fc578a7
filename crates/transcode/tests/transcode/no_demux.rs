//! In the place of the role that is not measured or tested here.

/// Takes no job.
pub struct NoDemux;

impl worker::Work for NoDemux {
    type Role = ipc::Demux;

    fn start(
        _: ipc::demux::Job,
        _: worker::Events<ipc::demux::Event>,
        _: &worker::watchdog::Watchdog,
        _: worker::Temporary,
    ) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn command(&mut self, _: ipc::demux::Command) {}
}
