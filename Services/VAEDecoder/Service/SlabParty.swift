import Bus
import Failure
import Model
import Request
import Synchronization
import Tensor

/// What decoders that share a decode say to one another (docs/protocol.md).
enum SlabSubject: Int {
    /// Leader → assistant, the beginning of a round: `SlabOrder` as JSON.
    case order = 1
    /// Leader → assistant: all latents, `[F, C, h, w]`.
    case latents
    /// Rows for the neighbour above, and for the one below; the tag counts the exchanges of a member.
    case rowsUp, rowsDown
    /// Assistant → leader: sums of its own rows; leader → assistant: those of all. Doubles, little-endian.
    case sums, totals
    /// Assistant → leader: its rows of a chunk's frames, `[t, rows, W, 3]` float32; the tag is the chunk's number.
    case pixels
}

/// How a round is divided.
struct SlabOrder: Codable, Sendable {
    /// Seats from the top of the image on; the leader's is 0.
    var seats: [Int]
    /// Which of them is meant.
    var member: Int
    var dtype: Precision
    var latentShape: [Int]
    var latentDType: UInt32

    enum CodingKeys: String, CodingKey {
        case seats, member, dtype
        case latentShape = "latent_shape"
        case latentDType = "latent_dtype"
    }

    /// - Throws: `parameters_invalid`, `slab_mismatched`.
    init(message: Tensor) throws(Failure) {
        let text = message.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        self = try CanonicalJSON.decode(SlabOrder.self, from: text)
        guard latentShape.count == 4, latentShape.allSatisfy({ (1...(1 << 14)).contains($0) }),
            seats.indices.contains(member), Set(seats).count == seats.count, seats.first == 0,
            plan.count == seats.count, type?.isFloatingPoint == true
        else {
            throw Failure(
                "slab_mismatched", "an order for member \(member) of \(seats) and latents \(latentShape)",
                retry: .otherWorker)
        }
    }

    init(seats: [Int], member: Int, dtype: Precision, latents: Tensor) {
        self.seats = seats
        self.member = member
        self.dtype = dtype
        latentShape = latents.shape
        latentDType = latents.dtype.rawValue
    }

    var type: DType? { DType(rawValue: latentDType) }
    var plan: SlabPlan { SlabPlan(height: latentShape[2], members: seats.count) }

    func message() throws(Failure) -> Tensor { Tensor(bytes: Array(try CanonicalJSON.encode(self).utf8)) }
}

/// One member's conversation with the others in one round, over the bus.
final class PartyExchange: SlabExchange {
    private struct Counted {
        var exchanges = 0
        var waited = Duration.zero
    }

    private let party: AssistanceParty
    private let round: Int
    private let order: SlabOrder
    private let check: @Sendable () throws(Failure) -> Void
    private let counted = Mutex(Counted())

    init(
        party: AssistanceParty, round: Int, order: SlabOrder, check: @escaping @Sendable () throws(Failure) -> Void
    ) {
        self.party = party
        self.round = round
        self.order = order
        self.check = check
    }

    /// Time in which this member waited for others.
    var waited: Duration { counted.withLock { $0.waited } }

    private var seat: Int { order.seats[order.member] }

    func exchange(top: Tensor?, bottom: Tensor?) throws(Failure) -> (above: Tensor?, below: Tensor?) {
        let tag = nextTag()
        if let top { send(top, .rowsUp, tag, to: order.member - 1) }
        if let bottom { send(bottom, .rowsDown, tag, to: order.member + 1) }
        return (
            above: try top.map { (top) throws(Failure) in
                try receive(.rowsDown, tag, from: order.member - 1, like: top)
            },
            below: try bottom.map { (bottom) throws(Failure) in
                try receive(.rowsUp, tag, from: order.member + 1, like: bottom)
            }
        )
    }

    /// Added by the leader, in the order of the members.
    func reduce(_ values: [Double]) throws(Failure) -> [Double] {
        let tag = nextTag()
        guard order.member == 0 else {
            send(Self.tensor(values), .sums, tag, to: 0)
            return Self.values(try receive(.totals, tag, from: 0, like: Self.tensor(values)))
        }
        var totals = values
        for member in order.seats.indices.dropFirst() {
            let theirs = Self.values(try receive(.sums, tag, from: member, like: Self.tensor(values)))
            for index in totals.indices { totals[index] += theirs[index] }
        }
        for member in order.seats.indices.dropFirst() { send(Self.tensor(totals), .totals, tag, to: member) }
        return totals
    }

    /// Gives the leader this member's rows of a chunk.
    func deliver(_ pixels: Tensor, chunk: Int) { send(pixels, .pixels, chunk, to: 0) }

    /// Takes a member's rows of a chunk, whose frames are those of `own` and whose rows are `rows`.
    func pixels(chunk: Int, of member: Int, rows: Int, like own: Tensor) throws(Failure) -> Tensor {
        let shape = [own.shape[0], rows, own.shape[2], own.shape[3]]
        return try receive(.pixels, chunk, from: member, shape: shape, dtype: own.dtype)
    }

    private func nextTag() -> Int {
        counted.withLock {
            $0.exchanges += 1
            return $0.exchanges
        }
    }

    private func send(_ tensor: Tensor, _ subject: SlabSubject, _ tag: Int, to member: Int) {
        party.send(
            tensor, AssistanceSubject(round: round, kind: subject.rawValue, tag: tag), from: seat,
            to: order.seats[member])
    }

    private func receive(
        _ subject: SlabSubject, _ tag: Int, from member: Int, like: Tensor
    ) throws(Failure) -> Tensor {
        try receive(subject, tag, from: member, shape: like.shape, dtype: like.dtype)
    }

    private func receive(
        _ subject: SlabSubject, _ tag: Int, from member: Int, shape: [Int], dtype: DType
    ) throws(Failure) -> Tensor {
        let start = ContinuousClock.now
        defer { counted.withLock { $0.waited += start.duration(to: .now) } }
        let bytes = try party.receive(
            AssistanceSubject(round: round, kind: subject.rawValue, tag: tag), from: order.seats[member], check: check)
        return try bytes.typed(shape, dtype)
    }

    private static func tensor(_ values: [Double]) -> Tensor {
        Tensor(bytes: values.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } })
    }

    private static func values(_ tensor: Tensor) -> [Double] {
        tensor.withUnsafeBytes { bytes in
            (0..<bytes.count / 8).map {
                Double(bitPattern: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)))
            }
        }
    }
}

extension Tensor {
    /// The same bytes as another tensor. Throws `slab_mismatched` when there are more or fewer than it has.
    func typed(_ shape: [Int], _ dtype: DType) throws(Failure) -> Tensor {
        guard byteCount == shape.reduce(1, *) * dtype.byteCount else {
            throw Failure(
                "slab_mismatched", "\(byteCount) bytes came for \(dtype) \(shape)", retry: .otherWorker)
        }
        return Tensor(storage: storage, byteOffset: byteOffset, shape: shape, dtype: dtype)
    }
}
