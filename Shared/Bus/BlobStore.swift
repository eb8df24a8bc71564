import CPlatform
package import Failure
import FoundationEssentials
import Glibc
import Synchronization
package import Tensor
package import Wire

/// A directory of durable blobs named by their SHA-256: embeddings, checkpoints, latents, finished files.
///
/// `blobs/ab/<64 digits>` holds a blob; a blob is written under `incoming/`, flushed, renamed and its directory
/// flushed, so that a name under `blobs/` always stands for complete bytes. One process owns the directory.
package final class BlobStore: BlobSource, BlobSink {
    package let directory: String
    private let capacityBytes: UInt64?
    private let lockDescriptor: Int32
    private let state = Mutex(State())
    /// Held while a file gets or loses its name, so that `state` and the directory change together: a blob that is
    /// stored again while it is removed is either there or not.
    private let naming = Mutex(())

    fileprivate struct State {
        var sizes: [Digest: UInt64] = [:]
        var total: UInt64 = 0
        var nextTemporary: UInt64 = 0
    }

    /// Free space of the file system that blobs never use up.
    private static let reserveBytes: UInt64 = 64 << 20

    /// Opens the directory, making it where it is missing; removes what a crash left half written.
    ///
    /// - Parameter capacityBytes: what all blobs together may take; nil = the disk.
    /// - Throws: `store_in_use` when another process has it, `io_error`.
    package init(directory: String, capacityBytes: UInt64? = nil) throws(Failure) {
        self.directory = directory
        self.capacityBytes = capacityBytes
        for folder in ["blobs", "incoming"] {
            do {
                try FileManager.default.createDirectory(
                    atPath: "\(directory)/\(folder)", withIntermediateDirectories: true,
                    attributes: [.posixPermissions: 0o700])
            } catch {
                throw Failure("io_error", "cannot make \(directory)/\(folder): \(error)", field: "store")
            }
        }
        lockDescriptor = open("\(directory)/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lockDescriptor >= 0 else { throw BlobStore.ioError("open", "\(directory)/lock") }
        guard cs_file_lock(lockDescriptor) == 0 else {
            // Every property is set, so deinit runs and closes the descriptor.
            throw Failure(
                "store_in_use", "another process has \(directory) open", field: "store",
                remedy: "Stop it, or give each broker a data directory of its own.")
        }
        // The folders' own names must outlast a power cut, or every blob goes with them.
        guard cs_directory_sync(directory) == 0 else { throw BlobStore.ioError("flush", directory) }
        _ = cs_directory_sync("\(directory)/..")
        removeLeftovers()
        index()
    }

    deinit {
        if lockDescriptor >= 0 { close(lockDescriptor) }
    }

    /// Bytes of all blobs.
    package var totalBytes: UInt64 { state.withLock { $0.total } }

    /// Every blob here, in no order.
    package var digests: [Digest] { state.withLock { Array($0.sizes.keys) } }

    package func contains(_ digest: Digest) -> Bool { state.withLock { $0.sizes[digest] != nil } }

    /// The blob as a `[size]` uint8 tensor over the mapped file.
    package func blob(_ digest: Digest) async -> Tensor? {
        guard let size = state.withLock({ $0.sizes[digest] }) else { return nil }
        guard size > 0 else { return Tensor(bytes: []) }
        let descriptor = open(path(of: digest), O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, UInt64(status.st_size) == size else { return nil }
        let count = Int(size)
        guard let address = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), address != MAP_FAILED else {
            return nil
        }
        let storage = TensorStorage(adopting: address, byteCount: count, isWritable: false) { munmap($0, $1) }
        return Tensor(storage: storage, shape: [count], dtype: .uint8)
    }

    /// Stores the bytes of `tensor` durably, without the network.
    ///
    /// - Throws: `store_full`, `io_error`.
    @discardableResult
    package func insert(_ tensor: Tensor) async throws(Failure) -> Digest {
        let digest = DataClient.digest(of: tensor)
        guard let writer = try await begin(digest, size: UInt64(tensor.byteCount)) else { return digest }
        var offset = 0
        while offset < tensor.byteCount {
            let end = min(offset + Limits.chunkBytes, tensor.byteCount)
            let piece = tensor.withUnsafeBytes { Array($0[offset..<end]) }
            do throws(Failure) {
                try await writer.write(piece, at: UInt64(offset))
            } catch {
                await writer.abort()
                throw error
            }
            offset = end
        }
        try await writer.commit()
        return digest
    }

    package func begin(_ digest: Digest, size: UInt64) async throws(Failure) -> (any BlobWriter)? {
        if contains(digest) {
            if await isIntact(digest) { return nil }
            // What a disk has damaged is made again by whoever made it, and must not be taken for being here.
            remove(digest)
        }
        let free = cs_disk_available(directory)
        let isOver = capacityBytes.map { totalBytes + size > $0 } ?? false
        guard !isOver, free >= BlobStore.reserveBytes, size <= free - BlobStore.reserveBytes else {
            throw Failure(
                "store_full", "no room for \(size) bytes in \(directory): \(totalBytes) used, \(free) free on the disk",
                field: "store", remedy: "Delete finished jobs or give the store more space.", retry: .sameWorker)
        }
        let number = state.withLock { state in
            state.nextTemporary += 1
            return state.nextTemporary
        }
        let temporary = "\(directory)/incoming/\(digest)-\(getpid())-\(number)"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw BlobStore.ioError("create", temporary) }
        return BlobFileWriter(store: self, digest: digest, size: size, temporary: temporary, descriptor: descriptor)
    }

    /// Whether the file still holds the bytes of its name; reads all of it.
    private func isIntact(_ digest: Digest) async -> Bool {
        guard let blob = await blob(digest) else { return false }
        return DataClient.digest(of: blob) == digest
    }

    /// Deletes a blob; transfers under way keep the mapped bytes. Unknown digests are ignored.
    package func remove(_ digest: Digest) {
        naming.withLock { _ in
            let wasHere = state.withLock { state in
                guard let size = state.sizes.removeValue(forKey: digest) else { return false }
                state.total -= size
                return true
            }
            if wasHere { unlink(path(of: digest)) }
        }
    }

    /// Gives a complete, flushed temporary file its name.
    fileprivate func adopt(_ temporary: String, as digest: Digest, size: UInt64) throws(Failure) {
        let folder = folder(of: digest)
        if mkdir(folder, 0o700) == 0 { _ = cs_directory_sync("\(directory)/blobs") }
        let failure = naming.withLock { _ -> Failure? in
            guard cs_durable_rename(temporary, path(of: digest), folder) == 0 else {
                return BlobStore.ioError("rename", temporary)
            }
            state.withLock { state in
                if state.sizes.updateValue(size, forKey: digest) == nil { state.total += size }
            }
            return nil
        }
        if let failure { throw failure }
    }

    fileprivate static func ioError(_ action: String, _ path: String) -> Failure {
        let code = errno
        return Failure(
            code == ENOSPC ? "store_full" : "io_error", "cannot \(action) \(path): \(String(cString: strerror(code)))",
            field: "store", retry: .sameWorker)
    }

    private func folder(of digest: Digest) -> String { "\(directory)/blobs/\(hexadecimal(digest.bytes.prefix(1)))" }

    private func path(of digest: Digest) -> String { "\(folder(of: digest))/\(digest)" }

    private func removeLeftovers() {
        for name in BlobStore.names(in: "\(directory)/incoming") { unlink("\(directory)/incoming/\(name)") }
    }

    private func index() {
        var found = State()
        for folder in BlobStore.names(in: "\(directory)/blobs") {
            for name in BlobStore.names(in: "\(directory)/blobs/\(folder)") {
                var status = stat()
                guard let digest = Digest(hexadecimal: name), name.hasPrefix(folder),
                    stat("\(directory)/blobs/\(folder)/\(name)", &status) == 0
                else { continue }
                found.sizes[digest] = UInt64(status.st_size)
                found.total += UInt64(status.st_size)
            }
        }
        state.withLock { [found] in $0 = found }
    }

    private static func names(in folder: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    }
}

/// Writes one blob on a thread of its own, hashing as it goes.
private actor BlobFileWriter: BlobWriter {
    private nonisolated let work = WorkQueue(label: "zoetrope.store")
    nonisolated var unownedExecutor: UnownedSerialExecutor { work.asUnownedSerialExecutor() }

    private let store: BlobStore
    private let digest: Digest
    private let size: UInt64
    private let temporary: String
    private var descriptor: Int32
    private var written: UInt64 = 0
    private var hasher = DigestHasher()

    init(store: BlobStore, digest: Digest, size: UInt64, temporary: String, descriptor: Int32) {
        self.store = store
        self.digest = digest
        self.size = size
        self.temporary = temporary
        self.descriptor = descriptor
    }

    deinit {
        if descriptor >= 0 {
            close(descriptor)
            unlink(temporary)
        }
    }

    func write(_ bytes: [UInt8], at offset: UInt64) async throws(Failure) {
        guard descriptor >= 0, offset == written, UInt64(bytes.count) <= size - written else {
            throw Failure("malformed", "\(bytes.count) bytes at \(offset) of a blob of \(size), after \(written)")
        }
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { all in
                let rest = UnsafeRawBufferPointer(rebasing: all[done...])
                return pwrite(descriptor, rest.baseAddress, rest.count, off_t(offset) + off_t(done))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw BlobStore.ioError("write", temporary) }
            done += count
        }
        bytes.withUnsafeBytes { hasher.update($0) }
        written += UInt64(bytes.count)
    }

    func commit() async throws(Failure) {
        let found = hasher.finalize()
        hasher = DigestHasher()
        guard written == size, found == digest else {
            discard()
            throw Failure(
                "digest_mismatch", "a blob announced as \(digest), \(size) bytes, is \(found), \(written) bytes",
                field: "digest", retry: .sameWorker)
        }
        guard fsync(descriptor) == 0 else {
            let failure = BlobStore.ioError("flush", temporary)
            discard()
            throw failure
        }
        close(descriptor)
        descriptor = -1
        do throws(Failure) {
            try store.adopt(temporary, as: digest, size: size)
        } catch {
            unlink(temporary)
            throw error
        }
    }

    func abort() async { discard() }

    private func discard() {
        guard descriptor >= 0 else { return }
        close(descriptor)
        descriptor = -1
        unlink(temporary)
    }
}
