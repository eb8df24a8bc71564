import CProtobufC
import CWire
import Failure

extension Unpacker {
    func hello(_ raw: Zoetrope__Hello) throws(Failure) -> Hello {
        try visit(raw.base)
        return Hello(
            worker: try text(raw.worker, "hello.worker"),
            capabilities: try list(
                raw.n_capabilities, raw.capabilities, "hello.capabilities", limit: Limits.capabilitiesPerWorker,
                capability),
            slots: raw.slots,
            dataLocations: try list(
                raw.n_data_locations, raw.data_locations, "hello.data_locations", limit: Limits.locations, location),
            minimumMinor: raw.minimum_minor, maximumMinor: raw.maximum_minor,
            numerics: try text(raw.numerics, "hello.numerics", limit: Limits.messageBytes), processID: raw.process_id,
            predecessorProcessID: raw.predecessor_process_id,
            predecessorEnd: try text(raw.predecessor_end, "hello.predecessor_end"))
    }

    func welcome(_ raw: Zoetrope__Welcome) throws(Failure) -> Welcome {
        try visit(raw.base)
        return Welcome(
            beatMilliseconds: raw.beat_milliseconds, leaseMilliseconds: raw.lease_milliseconds,
            storeLocations: try list(
                raw.n_store_locations, raw.store_locations, "welcome.store_locations", limit: Limits.locations, location
            ), cell: try text(raw.cell, "welcome.cell", limit: Limits.cellBytes))
    }

    func runningTask(_ raw: Zoetrope__RunningTask) throws(Failure) -> RunningTask {
        try visit(raw.base)
        return RunningTask(
            task: try taskID(required(raw.task, "running.task")), fence: raw.fence, step: raw.step,
            totalSteps: raw.total_steps, millisecondsSinceProgress: raw.milliseconds_since_progress)
    }

    func beat(_ raw: Zoetrope__Beat) throws(Failure) -> Beat {
        try visit(raw.base)
        return Beat(
            freeSlots: raw.free_slots,
            running: try list(
                raw.n_running, raw.running, "beat.running", limit: Limits.runningTasksPerWorker, runningTask),
            storeBytes: raw.store_bytes, fetched: try fetchCounters(raw.fetched),
            warm: try texts(
                raw.n_warm, raw.warm, "beat.warm", limit: Limits.warmPerWorker, textLimit: Limits.nameBytes),
            previews: raw.previews, assistedFence: raw.assisted_fence)
    }

    func fetchCounters(_ raw: UnsafeMutablePointer<Zoetrope__FetchCounters>?) throws(Failure) -> FetchCounters {
        guard let raw = raw?.pointee else { return FetchCounters() }
        try visit(raw.base)
        return FetchCounters(
            memoryBlobs: raw.memory_blobs, memoryBytes: raw.memory_bytes, socketBlobs: raw.socket_blobs,
            socketBytes: raw.socket_bytes, fallbacks: raw.fallbacks)
    }

    func beatAcknowledgement(_ raw: Zoetrope__BeatAcknowledgement) throws(Failure) -> BeatAcknowledgement {
        try visit(raw.base)
        return BeatAcknowledgement(
            sequence: raw.sequence, drain: raw.drain != 0,
            releases: try array(
                raw.n_releases, raw.releases, "beat_acknowledgement.releases", limit: Limits.releasesPerBeat, digest),
            watched: try list(
                raw.n_watched, raw.watched, "beat_acknowledgement.watched", limit: Limits.runningTasksPerWorker, lease))
    }

    func errorReply(_ raw: Zoetrope__ErrorReply) throws(Failure) -> ErrorReply {
        try visit(raw.base)
        return ErrorReply(
            code: try text(raw.code, "error.code"), message: try prose(raw.message, "error.message"),
            retryAfterMilliseconds: raw.retry_after_milliseconds)
    }
}
