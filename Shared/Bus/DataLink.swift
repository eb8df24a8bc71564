import CZeroMQ
import Failure
import Wire

/// A consumer's connection to one holder of blobs; every transfer with that holder shares it. Bus thread only.
final class DataLink {
    let endpoint: Holder
    let socket: Socket
    let monitor: SocketMonitor
    var registrations: [UInt64] = []
    var isUp = false
    /// Identities of the transfers that use it.
    var transfers: Set<UInt64> = []
    var lastUse = ContinuousClock.now

    init(_ endpoint: Holder, _ identity: KeyPair?, _ context: ZMQContext) throws(Failure) {
        self.endpoint = endpoint
        let socket = try Socket(context, ZMQ_DEALER)
        SocketProfile.data(socket)
        socket.set(ZMQ_IMMEDIATE, 1)
        if let identity, let key = endpoint.key { socket.presentCurve(identity, to: key) }
        monitor = try SocketMonitor(socket, context)
        try socket.connect(endpoint.endpoint.description)
        self.socket = socket
    }

    func close(_ reactor: Reactor) {
        for registration in registrations { reactor.unregister(registration) }
        registrations = []
        monitor.close()
        socket.close()
    }
}

/// How one attempt to move a blob over one link ended.
enum TransferOutcome: Sendable {
    case fetched(ReceiveBuffer, Digest, Way)
    case stored
    /// The holder answered that it has no such blob.
    case notHere
    /// No connection, a lost connection, or silence.
    case lost(String)
    /// The other side refused, or what arrived is wrong.
    case failed(Failure)
    /// Shared memory did not keep what it promised; the socket may.
    case unshared(String)
    case cancelled

    /// How a blob came.
    enum Way: Sendable {
        case memory
        /// `isFallback`: although shared memory was tried.
        case socket(isFallback: Bool)
    }
}

/// One attempt to move a blob over one link.
struct Transfer {
    enum Work {
        case fetch(buffer: ReceiveBuffer, hash: HashPipeline, received: Int)
        case store(PinnedTensor, offset: Int, credit: Int, chunkLimit: Int, isDone: Bool)
    }

    var endpoint: Holder
    var ticket: Ticket?
    var digest: Digest
    var length: Int
    var work: Work
    var continuation: CheckedContinuation<TransferOutcome, Never>
    var timeout: Duration
    /// Sequence of its GET or PUT_OPEN; 0 while it waits for a connection or for a busy holder.
    var sequence: UInt64 = 0
    var isParked = false
    /// Whether the blob may come through shared memory; whether the holder has invited us to, whether we have tried, and
    /// whether it is being copied out at the moment.
    var mayShare = false
    var wasInvited = false
    var triedMemory = false
    var isBorrowing = false
    var lastProgress = ContinuousClock.now
    /// However busy the holder says it is, the attempt ends then.
    var deadline: ContinuousClock.Instant
}
