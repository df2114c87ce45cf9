import { defineConfig } from 'vite';

// The client brings its wasm as a file beside its module, which Vite's pre-bundling would leave behind.
export default defineConfig({
  optimizeDeps: { exclude: ['@anabranch/client'] },
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
});
