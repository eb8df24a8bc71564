import Bus
import Failure
import Wire
import Work

/// Who may do what at a broker that has keys: binds sessions to keys, gives tickets, hands key rings to workers.
///
/// `ControlServer` has checked already that the key is authorised and the kind of message fits its role; here is what
/// needs the broker's knowledge. Peers on ipc run as the broker's own user and could read its files: they have no key
/// and no restrictions but those of the protocol.
struct AccessControl {
    /// Whose a session is: its first message decides, and no other key may speak for it.
    private enum Owner: Hashable {
        case ownUser
        case key(PublicKey)
    }

    /// A ticket opens one transfer; what is under way goes on.
    static let ticketMilliseconds: UInt64 = 60_000
    /// Key rings are repeated this often, in case one was lost.
    static let ringMilliseconds: UInt64 = 30_000

    private let security: BusSecurity
    private let master: TicketKey
    private var owners: [SessionID: Owner] = [:]
    /// Workers that serve behind CURVE, by the key of their data sockets.
    private var holders: [SessionID: PublicKey] = [:]
    /// Those that wait for a key ring.
    private var waiting: Set<SessionID> = []
    private var nextRoundAt: UInt64 = 0
    private(set) var counters = Counters()

    struct Counters {
        /// Messages for another key's session, and data sockets announced under another key.
        var refusedSessions: UInt64 = 0
        var refusedTickets: UInt64 = 0
        var revokedSessions: UInt64 = 0
    }

    init(_ security: BusSecurity) {
        self.security = security
        master = security.identity.ticketMaster
        let own = master.derived(for: security.identity.publicKey)
        security.setTicketKey(own, brokerUnixMilliseconds: BootClock.now().unixMilliseconds)
    }

    // MARK: Messages

    /// Why the message may not come from this peer, or nil. Notes what it says about the peer.
    mutating func objection(to envelope: Envelope, from peer: PeerID) -> String? {
        let objection = check(envelope, from: peer)
        if objection != nil { counters.refusedSessions += 1 }
        return objection
    }

    private mutating func check(_ envelope: Envelope, from peer: PeerID) -> String? {
        let owner = peer.key.map { Owner.key($0) } ?? .ownUser
        if let known = owners[envelope.session], known != owner { return "the session belongs to another key" }
        if case .hello(let hello) = envelope.message {
            let keys = Set(hello.dataLocations.compactMap { if case .curve(_, _, let key) = $0 { key } else { nil } })
            if let own = peer.key, keys.contains(where: { $0 != own }) {
                return "a worker announces data sockets under its own key only"
            }
            holders[envelope.session] = keys.first
            if !keys.isEmpty { waiting.insert(envelope.session) }
        }
        owners[envelope.session] = owner
        return nil
    }

    /// Sessions whose key is not authorised any more, or for something else than before; they are forgotten here.
    mutating func takeRevoked(before: [PublicKey: Principal]) -> [SessionID] {
        let gone = owners.filter { entry in
            guard case .key(let key) = entry.value else { return false }
            return security.principal(of: key) != before[key]
        }
        for session in gone.keys { forget(session) }
        counters.revokedSessions += UInt64(gone.count)
        return gone.keys.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    mutating func forget(_ session: SessionID) {
        owners[session] = nil
        holders[session] = nil
        waiting.remove(session)
    }

    /// Keeps what belongs to `sessions`.
    mutating func forgetAll(but sessions: Set<SessionID>) {
        for session in owners.keys where !sessions.contains(session) { forget(session) }
    }

    // MARK: Key rings

    /// Every worker gets a new ring: the table has changed.
    mutating func tellEverybody() { waiting.formUnion(holders.keys) }

    /// The rings that are due.
    mutating func rings(now: UInt64) -> [(SessionID, KeyRing)] {
        if now >= nextRoundAt {
            nextRoundAt = now + Self.ringMilliseconds
            tellEverybody()
        }
        let due = waiting
        waiting = []
        guard !due.isEmpty else { return [] }
        let keys = security.admittedKeys
        return due.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }.compactMap { session in
            holders[session].map { holder in
                (
                    session,
                    KeyRing(
                        keys: keys, ticketKey: master.derived(for: holder),
                        unixMilliseconds: security.brokerUnixMilliseconds)
                )
            }
        }
    }

    // MARK: Tickets

    /// - Throws: `forbidden` for a blob that the asker has no business with.
    mutating func ticket(
        for request: TicketRequest, session: SessionID, from peer: PeerID, records: Records
    ) throws(Failure) -> Ticket {
        if let problem = problem(request, session, peer, records) {
            counters.refusedTickets += 1
            throw Failure("forbidden", "no ticket to \(request.terms.direction) \(request.terms.digest): \(problem)")
        }
        let expiry = security.brokerUnixMilliseconds + Self.ticketMilliseconds
        return master.derived(for: request.holder).issue(
            request.terms, fence: request.lease?.fence ?? 0, expiresAtUnixMilliseconds: expiry)
    }

    private func problem(
        _ request: TicketRequest, _ session: SessionID, _ peer: PeerID, _ records: Records
    ) -> String? {
        let terms = request.terms
        let principal = peer.key.flatMap { security.principal(of: $0) }
        if let key = peer.key, key != terms.consumer { return "it would be for another key" }
        if terms.direction == .put, request.holder != security.identity.publicKey {
            return "blobs are put into the broker's store only"
        }
        if let lease = request.lease {
            guard let task = records.task(of: lease), task.state == .leased, task.session == session else {
                return "the task \(lease.task) is not leased to the asker under fence \(lease.fence)"
            }
            guard terms.direction == .get else { return nil }
            let inputs = records.jobs[lease.task.job]?.inputs(of: task) ?? []
            let checkpoints = [task.checkpoint?.digest, task.earlierCheckpoint?.ref.digest]
            let isInput = inputs.contains { $0.ref.digest == terms.digest } || checkpoints.contains(terms.digest)
            return isInput ? nil : "it is no input of \(lease.task)"
        }
        switch principal?.role {
        case nil, .gateway, .admin: return nil
        case .worker: return "a worker needs a lease for it"
        case .client:
            guard terms.direction == .get, let principal else { return nil }
            return records.isOfTenant(principal.name, terms.digest) ? nil : "it belongs to no job of \(principal.name)"
        }
    }
}

extension Records {
    /// Whether a job of the tenant has the blob among its inputs or outputs.
    fileprivate func isOfTenant(_ tenant: String, _ digest: Digest) -> Bool {
        jobs.values.contains { job in
            guard job.key.tenant == tenant else { return false }
            return job.tasks.contains { task in
                task.outputs.contains { $0.ref.digest == digest }
                    || task.specification.inputs.contains { input in
                        if case .blob(let ref) = input.source { ref.digest == digest } else { false }
                    }
            }
        }
    }
}
