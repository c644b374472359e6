// Runs before the first paint so that the page never flashes in the wrong theme. A plain file, because the CSP forbids inline scripts.
// The choice is kept in a cookie and not in localStorage: the engine's port, and with it the origin, changes at every start, and cookies ignore ports.
;(function () {
  var match = /(?:^|; )lathe-theme=(light|dark)/.exec(document.cookie)
  document.documentElement.dataset.theme = match ? match[1] : window.matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'
})()
