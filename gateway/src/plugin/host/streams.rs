//! Streams of bytes between guest and host: bodies of requests, and what is printed. A guest pays for what it moves.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::io::streams::{self, HostInputStream, HostOutputStream};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};

use super::Host;

type Input = Resource<DynInputStream>;
type Output = Resource<DynOutputStream>;

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl streams::Host for Host {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        self.table().convert_stream_error(error)
    }
}

impl HostInputStream for Host {
    fn read(&mut self, stream: Input, len: u64) -> StreamResult<Vec<u8>> {
        let bytes = self.table().read(stream, len)?;
        self.owe(length(&bytes));
        Ok(bytes)
    }

    async fn blocking_read(&mut self, stream: Input, len: u64) -> StreamResult<Vec<u8>> {
        let bytes = self.table().blocking_read(stream, len).await?;
        self.owe(length(&bytes));
        Ok(bytes)
    }

    fn skip(&mut self, stream: Input, len: u64) -> StreamResult<u64> {
        let skipped = self.table().skip(stream, len)?;
        self.owe(skipped);
        Ok(skipped)
    }

    async fn blocking_skip(&mut self, stream: Input, len: u64) -> StreamResult<u64> {
        let skipped = self.table().blocking_skip(stream, len).await?;
        self.owe(skipped);
        Ok(skipped)
    }

    fn subscribe(&mut self, stream: Input) -> wasmtime::Result<Resource<DynPollable>> {
        HostInputStream::subscribe(self.table(), stream)
    }

    async fn drop(&mut self, stream: Input) -> wasmtime::Result<()> {
        HostInputStream::drop(self.table(), stream).await
    }
}

impl HostOutputStream for Host {
    fn check_write(&mut self, stream: Output) -> StreamResult<u64> {
        self.table().check_write(stream)
    }

    fn write(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        self.owe(length(&bytes));
        self.table().write(stream, bytes)
    }

    async fn blocking_write_and_flush(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        self.owe(length(&bytes));
        self.table().blocking_write_and_flush(stream, bytes).await
    }

    fn flush(&mut self, stream: Output) -> StreamResult<()> {
        self.table().flush(stream)
    }

    async fn blocking_flush(&mut self, stream: Output) -> StreamResult<()> {
        self.table().blocking_flush(stream).await
    }

    fn subscribe(&mut self, stream: Output) -> wasmtime::Result<Resource<DynPollable>> {
        HostOutputStream::subscribe(self.table(), stream)
    }

    fn write_zeroes(&mut self, stream: Output, len: u64) -> StreamResult<()> {
        self.owe(len);
        self.table().write_zeroes(stream, len)
    }

    async fn blocking_write_zeroes_and_flush(&mut self, stream: Output, len: u64) -> StreamResult<()> {
        self.owe(len);
        self.table().blocking_write_zeroes_and_flush(stream, len).await
    }

    fn splice(&mut self, stream: Output, from: Input, len: u64) -> StreamResult<u64> {
        let moved = self.table().splice(stream, from, len)?;
        self.owe(moved);
        Ok(moved)
    }

    async fn blocking_splice(&mut self, stream: Output, from: Input, len: u64) -> StreamResult<u64> {
        let moved = self.table().blocking_splice(stream, from, len).await?;
        self.owe(moved);
        Ok(moved)
    }

    async fn drop(&mut self, stream: Output) -> wasmtime::Result<()> {
        HostOutputStream::drop(self.table(), stream).await
    }
}
