"""Float networks as data: any torch module becomes layers that quantization understands."""
