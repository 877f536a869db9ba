// Sets light or dark before the first paint, as chosen in unfold's menu.
(function () {
  let choice = "auto";
  try {
    choice = JSON.parse(localStorage.getItem("_x_adminTheme") || localStorage.getItem("adminTheme") || '"auto"');
  } catch (error) {
    choice = "auto"; // storage can be forbidden, or hold another program's text
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () =>
    document.documentElement.classList.toggle("dark", choice === "dark" || (choice !== "light" && dark.matches));
  dark.addEventListener("change", apply);
  apply();
})();
