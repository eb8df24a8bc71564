/// The keys and shapes that a network expects in its checkpoint, gathered layer by layer.
struct ExpectedWeights {
    private(set) var shapes: [String: [Int]] = [:]

    /// A tensor of any shape.
    mutating func tensor(_ key: String, _ shape: [Int]) { shapes[key] = shape }

    /// `name.weight` `[outputs, inputs]` and `name.bias`.
    mutating func linear(_ name: String, inputs: Int, outputs: Int, bias: Bool = true) {
        tensor("\(name).weight", [outputs, inputs])
        if bias { tensor("\(name).bias", [outputs]) }
    }

    /// `name.weight` and `name.bias` of a normalisation; none when it is not affine.
    mutating func norm(_ name: String, width: Int, affine: Bool = true) {
        guard affine else { return }
        tensor("\(name).weight", [width])
        tensor("\(name).bias", [width])
    }

    /// `name.weight` `[outputs, inputs] + kernel` and `name.bias`.
    mutating func convolution(_ name: String, inputs: Int, outputs: Int, kernel: [Int], bias: Bool = true) {
        tensor("\(name).weight", [outputs, inputs] + kernel)
        if bias { tensor("\(name).bias", [outputs]) }
    }
}
