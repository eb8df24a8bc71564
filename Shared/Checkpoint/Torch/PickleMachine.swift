import Failure

/// Reads the pickle of a `torch.save` file: a stack machine that knows the opcodes that protocol 2 writes for tensors,
/// containers and numbers, builds descriptions, and calls nothing (Python's pickletools documents the opcodes).
///
/// Failures: `pickle_global_refused`, `pickle_opcode_refused`, `pickle_invalid`, `pickle_too_large`,
/// `torch_tensor_invalid`.
struct PickleMachine {
    /// The released 5B transformer's pickle has about 0.2 MB; a value costs its reader some ten times its opcode.
    static let largestPickle = 16 << 20

    private let bytes: [UInt8]
    private let label: String
    private var position = 0
    private var stack: [PickleValue] = []
    private var marks: [Int] = []
    private var memo: [Int: PickleValue] = [:]
    private var nodes: [PickleNode] = []

    /// Reads a whole pickle; `label` names the file in messages.
    static func read(_ bytes: [UInt8], label: String) throws(Failure) -> Pickle {
        guard bytes.count <= largestPickle else {
            throw Failure(
                "pickle_too_large",
                "\(label): its pickle has \(bytes.count) bytes, and no checkpoint needs more than \(largestPickle).",
                field: label, remedy: "Save only the model's state_dict.")
        }
        var machine = PickleMachine(bytes: bytes, label: label)
        while let value = try machine.step() {
            if case .stop(let root) = value { return Pickle(root: root, nodes: machine.nodes) }
        }
        throw machine.invalid("it does not end")
    }

    private init(bytes: [UInt8], label: String) {
        self.bytes = bytes
        self.label = label
    }

    private enum Outcome {
        case goesOn
        case stop(PickleValue)
    }

    private mutating func step() throws(Failure) -> Outcome? {
        guard position < bytes.count else { return nil }
        let place = position
        let opcode = bytes[position]
        position += 1
        if try pushConstant(opcode) { return .goesOn }
        if try combine(opcode) { return .goesOn }
        switch opcode {
        case 0x80:  // PROTO
            let version = try integer(1)
            guard version == 2 else {
                throw refused(opcode, at: place, "pickle protocol \(version); torch.save writes 2")
            }
        case UInt8(ascii: "c"): try pushGlobal()
        case UInt8(ascii: "Q"): try pushStorage()  // BINPERSID
        case UInt8(ascii: "R"), 0x81: try call()  // REDUCE, NEWOBJ
        case UInt8(ascii: "b"): try build()
        case UInt8(ascii: "q"): memo[try integer(1)] = try top()
        case UInt8(ascii: "r"): memo[try integer(4)] = try top()
        case UInt8(ascii: "h"): try recall(integer(1))
        case UInt8(ascii: "j"): try recall(integer(4))
        case UInt8(ascii: "."): return .stop(try pop())
        default: throw refused(opcode, at: place, "an opcode that no checkpoint of torch.save has")
        }
        return .goesOn
    }

    // MARK: Constants

    private mutating func pushConstant(_ opcode: UInt8) throws(Failure) -> Bool {
        switch opcode {
        case UInt8(ascii: "N"): stack.append(.none)
        case 0x88: stack.append(.bool(true))
        case 0x89: stack.append(.bool(false))
        case UInt8(ascii: "K"): stack.append(.integer(try integer(1)))
        case UInt8(ascii: "M"): stack.append(.integer(try integer(2)))
        case UInt8(ascii: "J"): stack.append(.integer(Int(Int32(truncatingIfNeeded: try integer(4)))))
        case 0x8a: stack.append(.integer(try longInteger()))
        case UInt8(ascii: "G"):
            var pattern: UInt64 = 0
            for byte in try take(8) { pattern = pattern << 8 | UInt64(byte) }
            stack.append(.number(Double(bitPattern: pattern)))
        case UInt8(ascii: "X"): stack.append(.text(String(decoding: try take(integer(4)), as: UTF8.self)))
        case UInt8(ascii: "("): marks.append(stack.count)
        default: return false
        }
        return true
    }

    /// LONG1: a length and that many bytes, two's complement.
    private mutating func longInteger() throws(Failure) -> Int {
        let part = try take(integer(1))
        guard part.count <= 8 else { throw invalid("an integer of \(part.count) bytes at byte \(position)") }
        var value = 0
        for (index, byte) in part.enumerated() { value |= Int(byte) << (8 * index) }
        let unused = 64 - 8 * part.count
        return part.isEmpty || unused == 0 ? value : (value << unused) >> unused
    }

    // MARK: Containers

    private mutating func combine(_ opcode: UInt8) throws(Failure) -> Bool {
        switch opcode {
        case UInt8(ascii: "}"): push(.dictionary([]))
        case UInt8(ascii: "]"): push(.list([]))
        case UInt8(ascii: ")"): push(.tuple([]))
        case UInt8(ascii: "t"): push(.tuple(try popToMark()))
        case 0x85, 0x86, 0x87: push(.tuple(try pop(Int(opcode) - 0x84)))
        case UInt8(ascii: "s"): try setItems(pop(2))
        case UInt8(ascii: "u"): try setItems(popToMark())
        case UInt8(ascii: "a"): try append(pop(1))
        case UInt8(ascii: "e"): try append(popToMark())
        default: return false
        }
        return true
    }

    /// Takes the container out of `nodes` while it grows, so that no copy is made.
    private mutating func setItems(_ items: [PickleValue]) throws(Failure) {
        guard items.count % 2 == 0, case .node(let index) = try top(), case .dictionary(var pairs) = nodes[index] else {
            throw invalid("items are set on what is no dictionary, at byte \(position)")
        }
        nodes[index] = .inert
        for start in stride(from: 0, to: items.count, by: 2) { pairs.append((items[start], items[start + 1])) }
        nodes[index] = .dictionary(pairs)
    }

    private mutating func append(_ items: [PickleValue]) throws(Failure) {
        guard case .node(let index) = try top(), case .list(var list) = nodes[index] else {
            throw invalid("items are appended to what is no list, at byte \(position)")
        }
        nodes[index] = .inert
        list += items
        nodes[index] = .list(list)
    }

    // MARK: Names and what they would make

    private mutating func pushGlobal() throws(Failure) {
        let module = try line(), name = try line()
        guard let global = PickleGlobal(module: module, name: name) else {
            throw Failure(
                "pickle_global_refused",
                "\(label) wants to use \(Self.printable("\(module).\(name)")), which no checkpoint needs.",
                field: Self.printable("\(module).\(name)"),
                remedy: "Nothing was executed. Do not load this file elsewhere unless you trust its author; if you do, "
                    + "save its state_dict alone.")
        }
        stack.append(.global(global))
    }

    /// A persistent id is ("storage", type, key, device, element count).
    private mutating func pushStorage() throws(Failure) {
        guard case .tuple(let parts) = try node(pop()), parts.count == 5, parts[0].text == "storage",
            case .global(.storage(let element)) = parts[1], let key = parts[2].text, let count = parts[4].integer,
            count >= 0
        else { throw invalid("a persistent id at byte \(position) is no storage") }
        push(.storage(TorchStorage(key: key, element: element, count: count)))
    }

    private mutating func call() throws(Failure) {
        let arguments = try node(pop())
        guard case .global(let global) = try pop(), case .tuple(let values) = arguments else {
            throw invalid("a call at byte \(position) of what is no name")
        }
        switch global {
        case .orderedDictionary where values.isEmpty: push(.dictionary([]))
        case .rebuildTensor: push(.tensor(try tensor(values)))
        case .rebuildParameter:
            guard let first = values.first, case .tensor = try node(first) else {
                throw invalid("a parameter at byte \(position) that is no tensor")
            }
            stack.append(first)
        case .inert: push(.inert)
        case .orderedDictionary, .storage: throw invalid("a call at byte \(position) with wrong arguments")
        }
    }

    private func tensor(_ values: [PickleValue]) throws(Failure) -> TorchTensor {
        guard values.count >= 4, case .storage(let storage) = try node(values[0]), let offset = values[1].integer,
            let shape = try integers(values[2]), let strides = try integers(values[3])
        else { throw invalid("a tensor at byte \(position) with wrong arguments") }
        guard let tensor = TorchTensor(storage: storage, offset: offset, shape: shape, strides: strides) else {
            throw Failure(
                "torch_tensor_invalid",
                "\(label): a tensor of shape \(shape.prefix(9)), strides \(strides.prefix(9)) and offset \(offset) "
                    + "does not fit its storage of \(storage.count) elements.",
                field: storage.key, remedy: "The file is damaged; fetch it again.")
        }
        return tensor
    }

    private func integers(_ value: PickleValue) throws(Failure) -> [Int]? {
        guard case .tuple(let parts) = try node(value) else { return nil }
        let integers = parts.compactMap(\.integer)
        return integers.count == parts.count ? integers : nil
    }

    /// BUILD gives an object its attributes: `_metadata` of a state dict, or the state of something inert.
    private mutating func build() throws(Failure) {
        _ = try pop()
        switch try node(top()) {
        case .dictionary, .inert: break
        default: throw invalid("attributes at byte \(position) of what has none")
        }
    }

    // MARK: Stack and bytes

    private mutating func push(_ node: PickleNode) {
        stack.append(.node(nodes.count))
        nodes.append(node)
    }

    private func node(_ value: PickleValue) throws(Failure) -> PickleNode {
        guard case .node(let index) = value else {
            throw invalid("a plain value stands for an object, at byte \(position)")
        }
        return nodes[index]
    }

    private func top() throws(Failure) -> PickleValue {
        guard let value = stack.last, stack.count > (marks.last ?? 0) else {
            throw invalid("its stack is empty at byte \(position)")
        }
        return value
    }

    private mutating func pop() throws(Failure) -> PickleValue {
        let value = try top()
        stack.removeLast()
        return value
    }

    private mutating func pop(_ count: Int) throws(Failure) -> [PickleValue] {
        guard stack.count - (marks.last ?? 0) >= count else { throw invalid("its stack is empty at byte \(position)") }
        let values = Array(stack.suffix(count))
        stack.removeLast(count)
        return values
    }

    private mutating func popToMark() throws(Failure) -> [PickleValue] {
        guard let mark = marks.popLast() else { throw invalid("there is no mark at byte \(position)") }
        let values = Array(stack[mark...])
        stack.removeSubrange(mark...)
        return values
    }

    private mutating func recall(_ index: Int) throws(Failure) {
        guard let value = memo[index] else { throw invalid("nothing is remembered as \(index), at byte \(position)") }
        stack.append(value)
    }

    private mutating func take(_ count: Int) throws(Failure) -> ArraySlice<UInt8> {
        guard count <= bytes.count - position else { throw invalid("it ends at byte \(bytes.count)") }
        defer { position += count }
        return bytes[position..<(position + count)]
    }

    /// A little-endian unsigned integer of up to four bytes.
    private mutating func integer(_ byteCount: Int) throws(Failure) -> Int {
        try take(byteCount).reversed().reduce(0) { $0 << 8 | Int($1) }
    }

    private mutating func line() throws(Failure) -> String {
        guard let end = bytes[position...].prefix(512).firstIndex(of: 0x0a) else {
            throw invalid("a name at byte \(position) does not end")
        }
        defer { position = end + 1 }
        return String(decoding: bytes[position..<end], as: UTF8.self)
    }

    /// Names come from the file: nothing in them may steer a terminal.
    private static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.prefix(200).map { $0.value < 0x20 ? "?" : $0 }))
    }

    private func invalid(_ what: String) -> Failure {
        Failure(
            "pickle_invalid", "\(label): its pickle cannot be read: \(what).", field: label,
            remedy: "Fetch the file again and compare its digest with the source.")
    }

    private func refused(_ opcode: UInt8, at place: Int, _ what: String) -> Failure {
        let digits = String(opcode, radix: 16)
        return Failure(
            "pickle_opcode_refused", "\(label): opcode 0x\(digits) at byte \(place) of its pickle: \(what).",
            field: label, remedy: "Save the state_dict again with torch.save and its default pickle protocol.")
    }
}
