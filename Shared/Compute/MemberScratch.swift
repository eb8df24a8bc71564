/// Scratch memory for each member of a pool, kept between loops and as large as the largest use so far.
///
/// `@unchecked Sendable`: a buffer is reached by its member inside a loop only, and a pool runs one loop at a time.
final class MemberScratch: @unchecked Sendable {
    private let buffers: UnsafeMutablePointer<UnsafeMutableRawBufferPointer>
    private let members: Int

    init(members: Int) {
        self.members = members
        buffers = .allocate(capacity: members)
        buffers.initialize(repeating: UnsafeMutableRawBufferPointer(start: nil, count: 0), count: members)
    }

    deinit {
        for member in 0..<members { buffers[member].deallocate() }
        buffers.deallocate()
    }

    /// At least `byteCount` uninitialised bytes, aligned to 64, for the rest of this part.
    func bytes(_ byteCount: Int, member: Int) -> UnsafeMutableRawPointer {
        if buffers[member].count < max(byteCount, 64) {
            buffers[member].deallocate()
            buffers[member] = .allocate(byteCount: max(byteCount, 64), alignment: 64)
        }
        guard let address = buffers[member].baseAddress else { preconditionFailure("an allocation has an address") }
        return address
    }
}

/// Rounds up to a multiple of 64, so that several pieces of one scratch buffer stay aligned.
func aligned(_ byteCount: Int) -> Int { (byteCount + 63) & ~63 }
