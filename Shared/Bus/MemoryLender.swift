import CPlatform
import Failure
import Glibc
import Wire

/// The books of a holder that shares memory: who was invited, who is connected, what lies where. Bus thread only.
///
/// Every consumer gets memory of its own, so that one that may have a blob sees no other's, and the end of its
/// connection frees all of it.
final class MemoryLender {
    /// A consumer that has brought its token.
    private struct Channel {
        let identity: UInt64
        let principal: PublicKey?
        let memory: LentMemory
        var extents: ExtentList
        var freeSlots = Array((0..<SharedLayout.slots).reversed())
        /// The last generation given out for each slot.
        var generations = [UInt64](repeating: 0, count: SharedLayout.slots)
        /// Up to here every byte has its page.
        var populated: Int
    }

    private struct Invitation {
        var principal: PublicKey?
        var end: ContinuousClock.Instant
    }

    /// Connections that have not brought a token yet.
    private static let strangerLimit = 16
    private static let channelLimit = 64
    private static let invitationLimit = 64
    private static let patience = Duration.seconds(5)

    let path: String
    let listener: Int32
    /// How long a consumer may take over one blob.
    let lease: Duration
    /// What the reactor calls each connection, by descriptor.
    var registrations: [Int32: UInt64] = [:]
    private let budgetBytes: Int
    private var strangers: [Int32: ContinuousClock.Instant] = [:]
    private var channels: [Int32: Channel] = [:]
    private var invitations: [[UInt8]: Invitation] = [:]
    private var nextIdentity: UInt64 = 0

    /// - Throws: `shared_memory_unavailable`, `endpoint_in_use`, `endpoint_unusable`, `bad_endpoint`.
    init(path: String, budgetBytes: Int, lease: Duration) throws(Failure) {
        // Whether the kernel can do it at all.
        _ = try LentMemory(dataBytes: ExtentList.alignment)
        try Binding.removeStaleFile(path)
        self.path = path
        self.budgetBytes = budgetBytes / ExtentList.alignment * ExtentList.alignment
        self.lease = lease
        listener = cs_channel_listen(path)
        guard listener >= 0 else {
            throw Failure(
                "endpoint_unusable", "cannot listen on \(path): \(String(cString: strerror(errno)))", field: "endpoint")
        }
    }

    deinit {
        for descriptor in Array(strangers.keys) + Array(channels.keys) { Glibc.close(descriptor) }
        guard listener >= 0 else { return }
        unlink(path)
        Glibc.close(listener)
    }

    /// The file name in the run directory.
    var fileName: String { path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path }

    /// Consumers connected.
    var channelCount: Int { channels.count }

    /// Bytes that may have pages, of all consumers.
    var usedBytes: Int { channels.values.reduce(0) { $0 + $1.extents.highWater - SharedLayout.dataStart } }

    // MARK: Invitations and connections

    /// A token for one connection of this principal; nil when too many are waited for.
    func invite(_ principal: PublicKey?) -> [UInt8]? {
        let now = ContinuousClock.now
        for (token, invitation) in invitations where invitation.end < now { invitations[token] = nil }
        guard invitations.count < MemoryLender.invitationLimit, channels.count < MemoryLender.channelLimit else {
            return nil
        }
        let token = Secrets.random()
        invitations[token] = Invitation(principal: principal, end: now + MemoryLender.patience)
        return token
    }

    /// The next connection that waits, to be watched; nil when there is none. Those of other users are closed.
    ///
    /// - Throws: `descriptors_exhausted` when the next one cannot be taken at present.
    func accept() throws(Failure) -> Int32? {
        while true {
            let descriptor = cs_channel_accept(listener)
            guard descriptor >= 0 else {
                if errno == EAGAIN { return nil }
                if errno == ECONNABORTED { continue }
                throw Failure("descriptors_exhausted", "cannot accept: \(String(cString: strerror(errno)))")
            }
            guard strangers.count < MemoryLender.strangerLimit, cs_channel_is_own_user(descriptor) == 1 else {
                Glibc.close(descriptor)
                continue
            }
            strangers[descriptor] = .now
            return descriptor
        }
    }

    /// Connections whose token is overdue.
    var overdue: [Int32] {
        let limit = ContinuousClock.now - MemoryLender.patience
        return strangers.filter { $0.value < limit }.map(\.key)
    }

    /// Reads what came over a connection: the token, for which it gets its memory, or its end.
    ///
    /// - Returns: whether the connection goes on.
    func hear(_ descriptor: Int32) -> Bool {
        var greeting = [UInt8](repeating: 0, count: SharedGreeting.byteCount)
        var passed: Int32 = -1
        let count = cs_channel_receive(descriptor, &greeting, greeting.count, &passed)
        if passed >= 0 { Glibc.close(passed) }
        if count < 0, errno == EAGAIN { return true }
        guard strangers[descriptor] != nil, Int(count) == greeting.count,
            greeting.starts(with: SharedGreeting.magic),
            let invitation = invitations.removeValue(forKey: Array(greeting.dropFirst(SharedGreeting.magic.count))),
            invitation.end >= .now, channels.count < MemoryLender.channelLimit,
            let memory = try? LentMemory(dataBytes: budgetBytes)
        else { return false }
        guard cs_channel_send(descriptor, SharedGreeting.magic, SharedGreeting.magic.count, memory.descriptor) == 0
        else { return false }
        strangers[descriptor] = nil
        nextIdentity += 1
        channels[descriptor] = Channel(
            identity: nextIdentity, principal: invitation.principal, memory: memory,
            extents: ExtentList(SharedLayout.dataStart..<memory.byteCount), populated: SharedLayout.dataStart)
        return true
    }

    /// Forgets a connection and what was lent over it.
    ///
    /// - Returns: the number of the consumer that it was, if it was one.
    func close(_ descriptor: Int32) -> UInt64? {
        guard strangers.removeValue(forKey: descriptor) != nil || channels[descriptor] != nil else { return nil }
        Glibc.close(descriptor)
        return channels.removeValue(forKey: descriptor)?.identity
    }

    // MARK: Slots

    /// Whether this principal's consumer has read this proof in memory that is shared with it.
    func isProven(_ proof: [UInt8], for principal: PublicKey?) -> Bool { channel(proof, principal) != nil }

    func isOpen(_ identity: UInt64) -> Bool { channels.values.contains { $0.identity == identity } }

    /// A place for a blob; nil when the memory, its consumer's slots or the budget of all are used up.
    func allocate(_ bytes: Int, proof: [UInt8], for principal: PublicKey?) -> LentSlot? {
        guard let descriptor = channel(proof, principal), var channel = channels[descriptor],
            let index = channel.freeSlots.last, let extent = channel.extents.fit(bytes)
        else { return nil }
        let growth = max(0, extent.upperBound - channel.extents.highWater)
        guard usedBytes + growth <= budgetBytes else { return nil }
        channel.freeSlots.removeLast()
        channel.extents.take(extent)
        channel.generations[index] += 2
        channels[descriptor] = channel
        return LentSlot(
            channel: channel.identity, memory: channel.memory, index: index, generation: channel.generations[index],
            extent: extent, needsPages: extent.upperBound > channel.populated)
    }

    /// Notes that the slot's extent has its pages.
    func populated(_ slot: LentSlot) {
        guard let descriptor = descriptor(of: slot.channel), let known = channels[descriptor]?.populated,
            slot.extent.lowerBound <= known
        else { return }
        channels[descriptor]?.populated = max(known, slot.extent.upperBound)
    }

    /// Takes a slot back. Readers notice first: its bytes may be written again as soon as this returns.
    func release(_ slot: LentSlot) {
        slot.memory.retire(slot)
        guard let descriptor = descriptor(of: slot.channel) else { return }
        channels[descriptor]?.extents.give(slot.extent)
        channels[descriptor]?.freeSlots.append(slot.index)
    }

    private func channel(_ proof: [UInt8], _ principal: PublicKey?) -> Int32? {
        guard !proof.isEmpty else { return nil }
        return channels.first { $0.value.memory.proof == proof && $0.value.principal == principal }?.key
    }

    private func descriptor(of identity: UInt64) -> Int32? {
        channels.first { $0.value.identity == identity }?.key
    }
}
