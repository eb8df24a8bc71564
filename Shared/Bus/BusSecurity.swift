package import Failure
import Logging
import Synchronization
package import Wire

/// What the serving sockets of a process need to know: its identity, whom it admits, and how tickets are verified.
///
/// One a loop: libzmq asks one handler a context (RFC 27). Sockets bound with it speak CURVE on TCP and answer nobody
/// whose key is not in the table.
package final class BusSecurity: Sendable {
    /// What was turned away since the start.
    package struct Counters: Sendable, Hashable {
        /// Handshakes of keys that are not authorised.
        package var refusedHandshakes: UInt64 = 0
        /// Handshakes that broke off: no key, another server's key, another protocol, or a mere knock.
        package var brokenHandshakes: UInt64 = 0
        package var admittedHandshakes: UInt64 = 0
    }

    /// One broker's word on tickets.
    private struct Ring {
        var keys: [Principal] = []
        var ticketKey: TicketKey
        /// The broker's clock when it was last told, and ours then.
        var unixMilliseconds: UInt64
        var at: ContinuousClock.Instant

        /// The broker's time as a clock that nobody sets (it goes on while the machine sleeps).
        var now: UInt64 { unixMilliseconds + UInt64(max(0, at.duration(to: .now) / .milliseconds(1))) }
    }

    private struct State {
        var principals: [PublicKey: Principal] = [:]
        var counters = Counters()
        /// What each broker said, by its place in the process's list.
        var rings: [Int: Ring] = [:]
        var lastComplaint: ContinuousClock.Instant?
    }

    package let identity: KeyPair
    private let state = Mutex(State())
    private let handler: ZAPHandler
    private let logger = Logger(label: "zoetrope.bus.security")

    /// Starts to answer libzmq's questions about keys; admits nobody before `admit`.
    ///
    /// - Throws: `bus_closed`, `endpoint_in_use` when the loop has a handler already.
    package init(loop: BusLoop, identity: KeyPair) throws(Failure) {
        self.identity = identity
        handler = try ZAPHandler(loop: loop)
        handler.begin(answering: self)
    }

    // MARK: Keys

    /// Replaces the table of those who are admitted. Connections of others live on, but nobody listens to them.
    package func admit(_ principals: [Principal]) {
        state.withLock { state in
            state.principals = Dictionary(principals.map { ($0.key, $0) }) { _, last in last }
        }
    }

    /// The owner of an authorised key.
    package func principal(of key: PublicKey) -> Principal? { state.withLock { $0.principals[key] } }

    /// Whom each key belongs to, at present.
    package var principals: [PublicKey: Principal] { state.withLock { $0.principals } }

    /// Every authorised key, in a fixed order.
    package var admittedKeys: [PublicKey] {
        state.withLock { Array($0.principals.keys) }.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    package var counters: Counters { state.withLock { $0.counters } }

    /// Forgets what was counted: the self-test's strangers are none.
    package func resetCounters() { state.withLock { $0.counters = Counters() } }

    func countBrokenHandshakes(_ count: UInt64) { state.withLock { $0.counters.brokenHandshakes += count } }

    /// The ZAP handler's question. Called on the bus thread; takes microseconds.
    func decide(_ key: PublicKey?, address: String) -> Bool {
        let (isAdmitted, mayComplain) = state.withLock { state -> (Bool, Bool) in
            if let key, state.principals[key] != nil {
                state.counters.admittedHandshakes += 1
                return (true, false)
            }
            state.counters.refusedHandshakes += 1
            // A stranger that knocks all day must not fill the disk.
            let now = ContinuousClock.now
            if let last = state.lastComplaint, now - last < .seconds(1) { return (false, false) }
            state.lastComplaint = now
            return (false, true)
        }
        if mayComplain {
            let name = key.map(\.description) ?? "without a CURVE key"
            logger.warning("refused a peer at \(address): \(name) is not authorised")
        }
        return isAdmitted
    }

    // MARK: Tickets

    /// Notes how tickets for this holder are verified and what the broker's clock says now.
    package func setTicketKey(_ key: TicketKey, brokerUnixMilliseconds: UInt64) {
        state.withLock { state in
            state.rings[0] = Ring(
                keys: state.rings[0]?.keys ?? [], ticketKey: key, unixMilliseconds: brokerUnixMilliseconds, at: .now)
        }
    }

    /// Adopts what a broker says: whom to admit, the ticket key, the clock. Who serves several brokers admits whom any of
    /// them admits and takes the tickets of each.
    ///
    /// - Parameter cell: the broker's place in the process's list; its newest ring replaces the one before.
    package func adopt(_ ring: KeyRing, of cell: Int = 0) {
        let keys = state.withLock { state in
            state.rings[cell] = Ring(
                keys: ring.keys.map { Principal(name: "", role: .worker, key: $0) }, ticketKey: ring.ticketKey,
                unixMilliseconds: ring.unixMilliseconds, at: .now)
            return state.rings.values.flatMap(\.keys)
        }
        admit(keys)
    }

    /// The first broker's time.
    package var brokerUnixMilliseconds: UInt64 { state.withLock { $0.rings[0] }?.now ?? 0 }

    /// - Throws: `ticket_invalid`, `ticket_expired`.
    func check(_ ticket: Ticket?, _ terms: TicketTerms) throws(Failure) {
        let rings = state.withLock { $0.rings.sorted { $0.key < $1.key }.map(\.value) }
        var problem = Failure("ticket_invalid", "this holder has not heard from the broker yet", retry: .sameWorker)
        for ring in rings {
            do throws(Failure) {
                return try ring.ticketKey.check(ticket, terms, nowUnixMilliseconds: ring.now)
            } catch {
                // An expired ticket is at least one of this broker's.
                if problem.code != "ticket_expired" { problem = error }
            }
        }
        throw problem
    }
}
